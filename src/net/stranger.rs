//! Somebody else answers in place of whom one wants: a captive portal, an ordinary web server, a proxy that speaks for it.

use std::fmt;

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};

use crate::protocol::untrusted::Untrusted;

/// What people can do about it.
pub(super) const ADVICE: &str = "check the address; if this network wants a log-on in a browser first, or lets HTTPS out through a proxy only, \
     see to that";

/// What a stranger was seen to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// It does not answer TLS with TLS.
    NoTls,
    /// It leads elsewhere, as a log-on page does.
    Redirect {
        /// Its status.
        status: StatusCode,
        /// Where to.
        location: Untrusted,
    },
    /// A document that is none of the protocol's: a page, or an error without a problem document.
    Document {
        /// Its status.
        status: StatusCode,
        /// As it says itself, if it does.
        media_type: Option<Untrusted>,
    },
}

impl Stranger {
    /// What the head of an answer shows, if it is none of the protocol's: every relay answers in JSON, and leads nowhere.
    #[must_use]
    pub fn in_answer(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let text = |name| Some(Untrusted::from(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned()));
        if status.is_redirection() {
            return Some(Self::Redirect { status, location: text(LOCATION).unwrap_or_default() });
        }
        let media_type = text(CONTENT_TYPE);
        let silent = status == StatusCode::SWITCHING_PROTOCOLS || status.is_success();
        let fits = match headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes) {
            None => silent,
            Some(said) => is_json(said),
        };
        (!fits).then_some(Self::Document { status, media_type })
    }
}

/// `application/json` and `application/problem+json`, with parameters or without.
fn is_json(media_type: &[u8]) -> bool {
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || essence.starts_with(b"application/") && essence.ends_with(b"+json")
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTls => f.write_str("it does not speak TLS, but something like plain HTTP"),
            Self::Redirect { status, location } => {
                write!(f, "it answers {} and leads to {}", status.as_u16(), location.quoted())
            }
            Self::Document { status, media_type } => {
                write!(f, "it answers {}", status.as_u16())?;
                match media_type {
                    Some(media_type) => write!(f, " with {}", media_type.quoted())?,
                    None => f.write_str(" and says nothing else")?,
                }
                if matches!(status.as_u16(), 502..=504) {
                    f.write_str(", as a load balancer or a proxy does whose server is away")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_redirects_are_no_answers_and_json_is() {
        let seen = |status: u16, fields: &[(http::header::HeaderName, &str)]| {
            let headers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            Stranger::in_answer(StatusCode::from_u16(status).unwrap(), &headers).map(|seen| seen.to_string())
        };
        for (status, media_type) in
            [(200, "application/json"), (404, "application/problem+json"), (201, "Application/JSON; charset=utf-8")]
        {
            assert_eq!(seen(status, &[(CONTENT_TYPE, media_type)]), None, "{media_type}");
        }
        for status in [101, 200, 204] {
            assert_eq!(seen(status, &[]), None, "{status}");
        }
        let page = seen(200, &[(CONTENT_TYPE, "text/html")]).unwrap();
        assert!(page.contains("answers 200 with") && page.contains("text/html"), "{page}");
        let away = seen(502, &[(CONTENT_TYPE, "text/html")]).unwrap();
        assert!(away.contains("load balancer"), "{away}");
        let led = seen(302, &[(LOCATION, "http://guest.example/login"), (CONTENT_TYPE, "application/json")]).unwrap();
        assert!(led.contains("302 and leads to") && led.contains("http://guest.example/login"), "{led}");
        assert!(seen(404, &[]).unwrap().contains("says nothing else"));
    }
}
