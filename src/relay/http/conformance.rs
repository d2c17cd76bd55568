//! What HTTP requires of a request and the library below leaves to us.

use axum::extract::Request;
use axum::http::header::{HOST, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Refusal;
use crate::protocol::problem::ProblemCode;

/// Refuses what is no request.
pub(in crate::relay) async fn check(request: Request, next: Next) -> Response {
    match fault(request.version(), request.method(), request.uri(), request.headers()) {
        Some(fault) => Refusal::new(ProblemCode::Malformed, fault).into_response(),
        None => next.run(request).await,
    }
}

fn fault(version: Version, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, further) = (hosts.next(), hosts.next());
    let host = match host.map(|host| host.to_str().ok().and_then(authority)) {
        Some(None) => return Some("the Host header is not a host"),
        Some(host) => host,
        None => None,
    };
    if further.is_some() {
        return Some("one Host header is expected (RFC 9112 §3.2)");
    }
    if version == Version::HTTP_11 && host.is_none() {
        return Some("a Host header is expected (RFC 9112 §3.2)");
    }
    if version >= Version::HTTP_2 {
        match (uri.authority(), &host) {
            (None, None) => return Some(":authority is expected (RFC 9113 §8.3.1)"),
            (Some(authority), _) if authority.as_str().contains('@') => {
                return Some(":authority has no user (RFC 9113 §8.3.1)");
            }
            (Some(authority), Some(host)) if authority != host => return Some("Host and :authority differ"),
            _ => {}
        }
    }
    if method == Method::CONNECT
        || uri.path().is_empty()
        || (uri.scheme().is_none() && version < Version::HTTP_2 && uri.authority().is_some())
    {
        return Some("the request's target is not a path (RFC 9112 §3.2)");
    }
    // What another server on the way may read as another length.
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || headers.get_all(TRANSFER_ENCODING).iter().count() > 1
    {
        return Some("no Transfer-Encoding but chunked, once, is taken");
    }
    None
}

fn authority(host: &str) -> Option<Authority> {
    let authority: Authority = host.parse().ok()?;
    // A port is a number, or empty (RFC 3986 §3.2.3).
    let behind = host.get(authority.host().len()..)?;
    (matches!(behind, "" | ":") || authority.port_u16().is_some()).then_some(authority).filter(|_| !host.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(version: Version, target: &str, headers: &[(&str, &str)]) -> Option<&'static str> {
        let mut request = Request::builder().version(version).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        fault(request.version(), request.method(), request.uri(), request.headers())
    }

    #[test]
    fn a_request_names_one_host_and_a_path() {
        let host = ("host", "relay.example:8443");
        for (version, target, headers) in [
            (Version::HTTP_11, "/v1", &[host][..]),
            (Version::HTTP_11, "https://relay.example:8443/v1", &[host]),
            (Version::HTTP_11, "/v1", &[("host", "[::1]:8443")]),
            (Version::HTTP_10, "/v1", &[]),
            (Version::HTTP_2, "https://relay.example:8443/v1", &[]),
            (Version::HTTP_2, "https://relay.example:8443/v1", &[host]),
            (Version::HTTP_11, "/v1", &[host, ("transfer-encoding", "Chunked")]),
        ] {
            assert_eq!(verdict(version, target, headers), None, "{target} {headers:?}");
        }
        for (version, target, headers) in [
            (Version::HTTP_11, "/v1", &[][..]),
            (Version::HTTP_11, "/v1", &[host, host]),
            (Version::HTTP_11, "/v1", &[("host", "a b")]),
            (Version::HTTP_11, "/v1", &[("host", "relay.example/x")]),
            (Version::HTTP_11, "/v1", &[("host", "a, b")]),
            (Version::HTTP_11, "/v1", &[("host", "user@relay.example")]),
            (Version::HTTP_11, "/v1", &[("host", "relay.example:x")]),
            (Version::HTTP_11, "/v1", &[("host", "relay.example:65536")]),
            (Version::HTTP_11, "relay.example:443", &[host]),
            (Version::HTTP_2, "/v1", &[]),
            (Version::HTTP_2, "/v1", &[host, host]),
            (Version::HTTP_2, "https://user@relay.example/v1", &[]),
            (Version::HTTP_2, "https://relay.example/v1", &[("host", "other.example")]),
            (Version::HTTP_11, "/v1", &[host, ("transfer-encoding", "brew, chunked")]),
            (Version::HTTP_11, "/v1", &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
        ] {
            assert!(verdict(version, target, headers).is_some(), "{target} {headers:?}");
        }
    }
}
