//! Small documents over HTTP, bounded in size and time.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};

use super::NetError;
use super::http_client::{HttpClient, HttpError};

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody there, or no TLS.
    #[error("{url} can't be reached: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("{url} did not answer within {} s", .within.as_secs())]
    Late {
        /// Where.
        url: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// An answer, and not the document. Redirects are not followed.
    #[error("{url} answered {status}, and 200 is expected")]
    Status {
        /// Where.
        url: String,
        /// What.
        status: StatusCode,
    },
    /// More than is read.
    #[error("{url} has more than {at_most} bytes")]
    TooLarge {
        /// Where.
        url: String,
        /// The bound.
        at_most: usize,
    },
}

/// Whether nobody on the way can alter what comes from this URL: HTTPS, or HTTP that does not leave this host.
#[must_use]
pub fn is_protected(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let plain = url.authority().is_some_and(|authority| !authority.as_str().contains('@')) && !host.is_empty();
    let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    plain && (url.scheme_str() == Some("https") || url.scheme_str() == Some("http") && here)
}

/// Gets documents: none larger, and none slower.
pub struct Fetch {
    http: HttpClient,
    at_most: usize,
    within: Duration,
}

impl Fetch {
    /// With a private CA beside the system's roots, and the proxy that the environment names. `peer` says in one word whose
    /// documents they are.
    ///
    /// # Errors
    /// If the CA file or the environment is no use.
    pub fn new(ca_file: Option<&Path>, peer: &'static str, at_most: usize, within: Duration) -> Result<Self, NetError> {
        Ok(Self { http: HttpClient::new(ca_file, peer)?, at_most, within })
    }

    /// A document.
    ///
    /// # Errors
    /// If it is not there, too large or too slow.
    pub async fn get(&self, url: &str) -> Result<Bytes, FetchError> {
        let url = || url.to_owned();
        let unreachable = |why: String| FetchError::Unreachable { url: url(), why };
        let request = Request::get(url()).body(Bytes::new()).map_err(|error| unreachable(error.to_string()))?;
        let answer = self.http.send(request, self.within, self.at_most).await.map_err(|error| match error {
            HttpError::Unreachable(why) | HttpError::Broken(why) => unreachable(why),
            HttpError::Late(within) => FetchError::Late { url: url(), within },
            HttpError::TooLarge { status: StatusCode::OK, at_most } => FetchError::TooLarge { url: url(), at_most },
            HttpError::TooLarge { status, .. } => FetchError::Status { url: url(), status },
        })?;
        if answer.status == StatusCode::OK {
            return Ok(answer.body);
        }
        // Another of its servers may have the document.
        self.http.doubt(&answer);
        Err(FetchError::Status { url: url(), status: answer.status })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_protected_url_is_https_or_stays_on_this_host() {
        for (url, good) in [
            ("https://id.example.com/realms/ops", true),
            ("https://[2001:db8::1]:8443", true),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000", true),
            ("http://localhost/", true),
            ("http://id.example.com", false),
            ("http://localhost.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("https://user@id.example.com", false),
            ("ftp://127.0.0.1", false),
            ("id.example.com", false),
            ("/realms", false),
        ] {
            assert_eq!(is_protected(&url.parse().unwrap()), good, "{url}");
        }
    }

    #[tokio::test]
    async fn a_document_without_end_is_not_read_and_a_slow_one_is_not_waited_for() {
        for (again, expected) in [("x", "has more than 1000 bytes"), ("", "did not answer within 1 s")] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/keys", listener.local_addr().unwrap());
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _asked = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                while !again.is_empty() && stream.write_all(again.repeat(1000).as_bytes()).await.is_ok() {}
                std::future::pending::<()>().await;
            });
            let fetch = Fetch::new(None, "server", 1000, Duration::from_secs(1)).unwrap();
            let got = timeout(Duration::from_secs(60), fetch.get(&url)).await.unwrap();
            let said = got.unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}
