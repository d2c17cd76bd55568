//! A way through an HTTP proxy (RFC 9110 §9.3.6), and a sentence for each way in which it says no.

use bytes::Bytes;
use http::header::{HOST, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::outbound_error::OutboundError;
use super::proxy::Proxy;
use super::stranger::ADVICE;
use super::tls::Stream;
use super::{causes, challenge};
use crate::protocol::untrusted::Untrusted;

/// Who we are.
pub(super) fn user_agent() -> HeaderValue {
    HeaderValue::from_static(concat!("writeback/", env!("CARGO_PKG_VERSION")))
}

/// Asks the proxy at the other end of `stream` for a connection to `target`, `HOST:PORT`.
pub(super) async fn open(stream: Stream, proxy: &Proxy, target: &str) -> Result<Stream, OutboundError> {
    let refused = |why: String| OutboundError::Proxy(format!("the proxy {proxy} {why}"));
    let mut connect = Request::new(Full::default());
    *connect.method_mut() = Method::CONNECT;
    *connect.uri_mut() = target.parse().map_err(|_| refused(format!("can't be asked for {target}")))?;
    let host = HeaderValue::from_str(target).map_err(|_| refused(format!("can't be asked for {target}")))?;
    connect.headers_mut().insert(HOST, host);
    connect.headers_mut().insert(USER_AGENT, user_agent());
    if let Some(authorization) = &proxy.authorization {
        connect.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    let answer = exchange(stream, connect).await.map_err(|error| {
        let why = if error.is_parse() { "is not an HTTP proxy: its answer is not HTTP" } else { "hung up" };
        refused(format!("{why} ({})", causes(&error)))
    })?;
    if !answer.status().is_success() {
        return Err(refused(why_not_through(answer.status(), answer.headers(), proxy, target)));
    }
    let tunnel = hyper::upgrade::on(answer).await.map_err(|error| refused(format!("hung up ({error})")))?;
    Ok(Box::new(TokioIo::new(tunnel)))
}

/// One request; the connection lives as long as the answer, or what it becomes.
pub(super) async fn exchange(
    stream: Stream,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await
}

fn why_not_through(status: StatusCode, headers: &HeaderMap, proxy: &Proxy, target: &str) -> String {
    match status.as_u16() {
        407 => why_not_known(&challenge::schemes(headers), proxy),
        403 => {
            format!("forbids connections to {target} (403): ask whoever runs it to allow CONNECT to that host and port")
        }
        502..=504 => {
            format!(
                "can't reach {target} itself ({status}): check from there that the name resolves and the port is open"
            )
        }
        // A captive portal; 511 is its own status (RFC 6585 §6).
        300..=399 | 511 => {
            let to = headers.get(LOCATION).map(|to| Untrusted::from(&*String::from_utf8_lossy(to.as_bytes())));
            let to = to.map(|to| format!(" and leads to {}", to.quoted())).unwrap_or_default();
            format!("does not connect to {target}, but answers {}{to}: {ADVICE}", status.as_u16())
        }
        // An ordinary web server.
        400 | 404 | 405 | 501 => {
            format!("does not know CONNECT ({status}): check that this is the proxy's host and port")
        }
        _ => format!("does not connect to {target} ({status})"),
    }
}

fn why_not_known(schemes: &[String], proxy: &Proxy) -> String {
    if !schemes.is_empty() && !schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) {
        let schemes = schemes.join(", ");
        return format!("wants {schemes} authentication (407); only Basic is supported: ask for an account with that");
    }
    if proxy.has_credentials() {
        "refuses the user name or the password (407): check proxy_user and proxy_password_file, or HTTPS_PROXY"
            .to_owned()
    } else {
        "wants a user name and a password (407): set proxy_user and proxy_password_file, or put them into HTTPS_PROXY"
            .to_owned()
    }
}
