//! What stands in the way to the relay has one clear sentence each, and no password in it.

use std::time::Duration;

use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use writeback_relay::net::outbound::{Access, Outbound};
use writeback_relay::net::proxy::Via;

use crate::support::deadline;
use crate::support::relay::Relay;
use crate::support::scripted_relay::ScriptedRelay;

/// A server on a port of its own that answers every request with `answer`, and hangs up.
async fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address.to_string()
}

/// Why the relay can't be reached through this proxy.
async fn why_not(proxy: &str) -> String {
    let access = Access { ca_file: None, via: Via::Proxy(proxy.parse().unwrap()) };
    let relay: Uri = "https://relay.corp.example:8443".parse().unwrap();
    let reached = Outbound::new(&access).unwrap();
    deadline("an answer", reached.reach(&relay)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn each_way_in_which_a_proxy_refuses_is_told_from_the_others() {
    for (answer, expected) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
            "wants a user name and a password (407)",
        ),
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\n\
             Proxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n",
            "wants Negotiate, NTLM authentication (407); only Basic is supported",
        ),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "forbids connections to relay.corp.example:8443 (403)"),
        ("HTTP/1.0 502 Bad Gateway\r\n\r\n", "can't reach relay.corp.example:8443 itself (502"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "can't reach relay.corp.example:8443 itself (503"),
        ("HTTP/1.1 405 Method Not Allowed\r\n\r\n", "does not know CONNECT (405"),
        ("HTTP/1.1 418 I'm a teapot\r\n\r\n", "does not connect to relay.corp.example:8443 (418"),
        ("220 mail.corp.example ESMTP\r\n", "is not an HTTP proxy"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "is not an HTTP proxy"),
        ("", "hung up"),
        // It lets us through, and hangs up in the middle of TLS; what comes then is the relay's trouble.
        ("HTTP/1.1 200 Connection established\r\n\r\n", "relay.corp.example: it hung up in the middle of TLS"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Welcome to our guest network</html>",
            "relay.corp.example: what answers there through the proxy",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://guest.example/\r\n\r\n",
            "answers 302 and leads to \"http://guest.example/\"",
        ),
        ("HTTP/1.1 511 Network Authentication Required\r\n\r\n", "if this network wants a log-on in a browser first"),
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\
             Proxy-Authenticate: Negotiate, NTLM, Basic realm=\"x, y\"\r\nContent-Length: 0\r\n\r\n",
            "wants a user name and a password (407)",
        ),
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\
             Proxy-Authenticate: Negotiate, NTLM, Digest realm=\"Basic, x\", qop=auth\r\nContent-Length: 0\r\n\r\n",
            "wants Negotiate, NTLM, Digest authentication (407); only Basic is supported",
        ),
    ] {
        let place = answering(answer).await;
        let said = why_not(&format!("http://{place}")).await;
        assert!(said.contains(expected), "{answer}\n{said}");
        assert!(said.contains(&format!("the proxy http://{place} ")) || expected.starts_with("relay"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// A server that sends this without end, whatever it is asked.
async fn endless(first: &'static str, again: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(first.as_bytes()).await;
                while stream.write_all(again.repeat(1000).as_bytes()).await.is_ok() {}
            });
        }
    });
    address.to_string()
}

#[tokio::test]
async fn a_proxy_whose_answer_never_ends_is_given_up() {
    for (first, again) in [
        ("HTTP/1.1 200 OK\r\nX: ", "x"),
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("", "x"),
        ("", "\r\n"),
        // It is asked to be patient for as long as connecting may take.
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let place = endless(first, again).await;
        let said = why_not(&format!("http://{place}")).await;
        assert!(said.contains(&place) && said.len() < 1000, "{first}{again}\n{said}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_from_a_missing_one_and_is_not_repeated() {
    let place = answering("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n").await;
    let said = why_not(&format!("http://user:hunter2@{place}")).await;
    assert!(
        said.contains("refuses the user name or the password (407)") && said.contains("proxy_password_file"),
        "{said}"
    );
    assert!(!said.contains("hunter2") && !said.contains("aHVudGVyMg"), "{said}");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told_from_a_relay_that_is_not_there() {
    let said = why_not("http://proxy.invalid:3128").await;
    assert!(said.starts_with("the proxy http://proxy.invalid:3128 can't be reached: proxy.invalid: "), "{said}");
    assert!(said.contains("can't be resolved"), "{said}");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = why_not(&format!("http://{gone}")).await;
    assert!(said.contains(&format!("the proxy http://{gone} can't be reached")) && said.contains("refused"), "{said}");

    let direct = Outbound::new(&Access { ca_file: None, via: Via::Direct }).unwrap();
    let why = async |url: &str| direct.reach(&url.parse().unwrap()).await.unwrap_err().to_string();
    let said = why("https://relay.invalid").await;
    assert!(said.starts_with("relay.invalid: ") && said.contains("can't be resolved"), "{said}");
    let said = why(&format!("https://{gone}")).await;
    assert!(said.contains(&gone.to_string()) && said.contains("refused"), "{said}");
    assert!(why("http://relay.example").await.contains("https://"));
}

#[tokio::test]
async fn a_proxy_that_never_answers_costs_no_more_than_the_time_for_connecting() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = silent.local_addr().unwrap();
    let said = why_not(&format!("http://{place}")).await;
    assert!(said.contains("within 10 s") && said.contains(&format!("through the proxy http://{place}")), "{said}");
}

#[tokio::test]
async fn trust_is_what_is_missing_when_the_ca_is_unknown_or_the_name_is_another() {
    let relay = ScriptedRelay::start().await;
    let at = |ca_file: Option<&std::path::Path>| {
        Outbound::new(&Access { via: Via::Direct, ..Access::from(ca_file) }).unwrap()
    };
    let url: Uri = relay.url.parse().unwrap();
    let said = at(None).reach(&url).await.unwrap_err().to_string();
    assert!(said.contains("localhost") && said.contains("a proxy inspects TLS") && said.contains("ca_file"), "{said}");
    at(Some(&relay.ca_file)).reach(&url).await.unwrap();
    let other: Uri = relay.url.replace("localhost", "127.0.0.1").parse().unwrap();
    let said = at(Some(&relay.ca_file)).reach(&other).await.unwrap_err().to_string();
    assert!(said.contains("another host name"), "{said}");
    assert!(Outbound::new(&Access::from(Some(std::path::Path::new("/nowhere/ca.pem")))).is_err());
}

#[tokio::test]
async fn an_ipv6_address_is_reached_like_any_other() {
    let listener = TcpListener::bind("[::1]:0").await.expect("this host has no IPv6 loopback address");
    let url: Uri = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let outbound = Outbound::new(&Access { ca_file: None, via: Via::Direct }).unwrap();
    let (reached, met) = tokio::join!(outbound.reach(&url), async {
        let (mut stream, _) = deadline("a connection", listener.accept()).await.unwrap();
        stream.read_u8().await.unwrap()
    });
    // The first byte of a TLS handshake: it came here, and only TLS did not go on.
    assert_eq!(met, 0x16);
    assert!(reached.unwrap_err().to_string().contains("in the middle of TLS"));
}

#[tokio::test]
async fn the_relay_says_by_its_date_how_far_the_clocks_are_apart() {
    let relay = Relay::start().await;
    let outbound = Outbound::new(&Access { ca_file: Some(relay.ca_file()), via: Via::Direct }).unwrap();
    let url: Uri = format!("{}/v1/agent/session", relay.url()).parse().unwrap();
    let request = || Ok(http::Request::get(&url).body(Default::default()).unwrap());
    let asked = outbound.send(&url, Duration::from_secs(30), &[], request);
    let answer = deadline("an answer", asked).await.unwrap().response;
    let now = writeback_relay::clock::Clock::now(&writeback_relay::clock::System);
    let ahead = |seconds: i64| {
        let there = writeback_relay::clock::UnixTime(now.0 - seconds);
        writeback_relay::net::clock_ahead(answer.headers(), there).unwrap()
    };
    assert!(ahead(0).abs() <= 2 && (ahead(300) - 300).abs() <= 2 && (ahead(-300) + 300).abs() <= 2);
}
