//! What somebody without a credential gets: few places, few requests, no memory, and no word of who is registered.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use writeback_relay::clock::{Clock, System};
use writeback_relay::net::tls_client;
use writeback_relay::protocol::ids::{CommandId, ObjectId};
use writeback_relay::protocol::jose::SigningKey;
use writeback_relay::protocol::rotation::{About, PortalKey, PortalRotation};

use super::{counted, counter, counting};
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Answered, RawPortal, Relay};
use crate::support::{deadline, eventually};

async fn connect(relay: &Relay, alpn: &[u8]) -> TlsStream<TcpStream> {
    let mut config = tls_client(Some(&relay.ca_file())).unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(relay.public_addr()).await.unwrap();
    let name = rustls::pki_types::ServerName::from(relay.public_addr().ip());
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

async fn agents(portal: &RawPortal) -> Answered {
    let bearer = portal.assertion().sign(&portal.key).unwrap();
    portal.send(|http, relay| http.get(format!("{relay}/v1/tenants/contoso/agents")).bearer_auth(bearer)).await
}

/// What is the same if nothing is told: all but the trace.
fn told(answered: &Answered) -> (u16, String, String) {
    (answered.status, answered.problem(), answered.detail())
}

#[tokio::test]
async fn nobody_learns_from_refusals_which_portals_are_registered() {
    let relay = Relay::start().await;
    let known = relay.portal("portal-1").await.raw;
    let strangers_key = || SigningKey::generate(&System).unwrap();
    let as_another = RawPortal { key: strangers_key(), ..known.clone() };
    let unknown = RawPortal { id: "portal-2".parse().unwrap(), key: strangers_key(), ..known.clone() };
    let refused = told(&agents(&unknown).await);
    assert_eq!((refused.0, refused.1.as_str()), (401, "invalid_assertion"));
    assert_eq!(told(&agents(&as_another).await), refused, "another key");
    // The known portal's kid, and a signature that is none of its.
    let (mut head, rest) = {
        let bearer = known.assertion().sign(&known.key).unwrap();
        let (signed, _) = bearer.rsplit_once('.').unwrap();
        let other = as_another.assertion().sign(&as_another.key).unwrap();
        (signed.to_owned(), other.rsplit_once('.').unwrap().1.to_owned())
    };
    head.push('.');
    let forged = known
        .send(|http, relay| http.get(format!("{relay}/v1/tenants/contoso/agents")).bearer_auth(head + &rest))
        .await;
    assert_eq!(told(&forged), refused, "another signature");

    let rotation = async |portal: &RawPortal| {
        let (from, to) = (strangers_key(), strangers_key());
        let key = |key: &SigningKey| PortalKey { signing: key.public().clone() };
        let about = About {
            iss: portal.id.clone(),
            relay: portal.relay.clone(),
            tenant: None,
            jti: ObjectId::new(&System, &System),
            iat: System.now(),
        };
        let jws = PortalRotation::new(about, 1, key(&from), key(&to), &to).unwrap().sign(&from).unwrap();
        portal
            .send(|http, relay| {
                http.post(format!("{relay}/v1/portal/rotations")).header("content-type", "application/jose").body(jws)
            })
            .await
    };
    let refused = told(&rotation(&unknown).await);
    assert_eq!((refused.0, refused.1.as_str()), (409, "rotation_refused"));
    assert_eq!(told(&rotation(&known).await), refused);
}

#[tokio::test]
async fn whoever_shows_no_credential_is_refused_before_his_body_is_here() {
    let relay = Relay::start().await;
    for path in ["/v1/tenants/contoso/commands", "/v1/tenants/contoso/invitations"] {
        let mut stream = connect(&relay, b"http/1.1").await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: r\r\nauthorization: Bearer x\r\ncontent-type: application/jose\r\n\
             content-length: 4000\r\n\r\nonly so much"
        );
        let answer = async {
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = vec![0; 12];
            deadline("the answer comes, without the body", stream.read_exact(&mut answer)).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        assert_eq!(counted(&relay, "invalid_assertion", answer).await, "HTTP/1.1 401", "{path}");
    }
}

/// A body that has begun and does not end.
async fn unended(client: &mut h2::client::SendRequest<Bytes>, relay: &Relay) -> (ResponseFuture, SendStream<Bytes>) {
    let request = http::Request::post(format!("{}/v1/enrollments", relay.url()))
        .header("content-type", "application/json")
        .header("content-length", "1000");
    poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(b"{"), false).unwrap();
    (answer, body)
}

#[tokio::test]
async fn a_connection_without_a_credential_keeps_few_bodies_open_and_an_address_too() {
    let relay = Relay::start_with("[client_address]\nfrom = \"connection\"").await;
    let hits = |limit: &str| format!("writeback_limits_hits_total{{limit=\"{limit}\"}}");
    let (mut kept, mut refused, mut overloaded) = (Vec::new(), 0, 0);
    for _ in 0..3 {
        let (mut client, connection) = h2::client::handshake(connect(&relay, b"h2").await).await.unwrap();
        tokio::spawn(connection);
        let mut opened = Vec::new();
        for _ in 0..12 {
            opened.push(unended(&mut client, &relay).await);
        }
        for (answer, body) in opened {
            kept.push(body);
            match deadline("it is answered", answer).await {
                Ok(answer) if answer.status() == 503 => overloaded += 1,
                Ok(answer) => assert_eq!(answer.status(), 408, "{answer:?}"),
                Err(error) => {
                    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM), "{error}");
                    refused += 1;
                }
            }
        }
        kept.push(unended(&mut client, &relay).await.1);
    }
    // Eight of twelve on each connection. They are left before the next connection begins, so the address has places.
    assert_eq!((refused, overloaded), (12, 0));
    assert_eq!(counter(&relay, &hits("unauthenticated_requests")).await, 12);
    assert_eq!(counter(&relay, &hits("body_timeout")).await, 24);
    let mut connections = Vec::new();
    for _ in 0..3 {
        let (mut client, connection) = h2::client::handshake(connect(&relay, b"h2").await).await.unwrap();
        tokio::spawn(connection);
        let mut opened = Vec::new();
        for _ in 0..8 {
            opened.push(unended(&mut client, &relay).await);
        }
        connections.push((client, opened));
    }
    eventually("of the third connection none is read: the address has sixteen", || async {
        counter(&relay, &hits("bodies")).await >= 7
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_a_credential_is_answered_sixteen_times_and_a_proxys_as_often_as_it_asks() {
    let forwarded = "[client_address]\nfrom = \"forwarded\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
    for (settings, answers) in [("", 16), (forwarded, 20)] {
        let relay = Relay::start_with(settings).await;
        let mut stream = connect(&relay, b"http/1.1").await;
        let ask = "GET /v1/tenants/contoso/agents HTTP/1.1\r\nhost: r\r\nforwarded: for=192.0.2.7\r\n";
        let last = format!("{ask}connection: close\r\n\r\n");
        stream.write_all(format!("{}{last}", format!("{ask}\r\n").repeat(19)).as_bytes()).await.unwrap();
        let mut text = Vec::new();
        let _ = deadline("it is answered", stream.read_to_end(&mut text)).await;
        assert_eq!(String::from_utf8_lossy(&text).matches("HTTP/1.1 401").count(), answers, "{settings}");
        let client = if settings.is_empty() { "127." } else { "192.0.2.7" };
        assert!(relay.log().contains(&format!("\"client.address\":\"{client}")), "{settings}");
    }
}

#[tokio::test]
async fn a_silent_connection_makes_room_for_one_that_speaks() {
    // Eight places, two of them for those without a credential.
    let relay = Relay::start_with_files(264).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(relay.public_addr()).await.unwrap());
    }
    let portal = relay.portal("portal-1").await;
    assert_eq!(agents(&portal.raw).await.status, 200);
    for mut silent in silent {
        let said = deadline("it is closed", silent.read(&mut [0; 1])).await;
        assert!(matches!(said, Ok(0) | Err(_)), "{said:?}");
    }
    assert!(counter(&relay, "writeback_limits_hits_total{limit=\"unauthenticated_connections\"}").await > 0);
}

#[tokio::test]
async fn a_portal_that_waits_for_too_much_is_told_so_and_another_is_served() {
    let relay = Relay::start_with("[limits]\nportal_requests = 2").await;
    let (portal, other) = (relay.portal("portal-1").await, relay.portal("portal-2").await);
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    let waits: Vec<_> = (0..2)
        .map(|_| {
            let (raw, command): (RawPortal, CommandId) = (portal.raw.clone(), command.jti);
            // One that comes while the test asks below may find no place, and comes again.
            tokio::spawn(async move {
                loop {
                    let answered = raw.follow(command, 60).await;
                    if answered.status != 429 {
                        return answered;
                    }
                }
            })
        })
        .collect();
    let hits = "writeback_limits_hits_total{limit=\"portal_requests\"}";
    eventually("it has as many as it may", || async { portal.raw.follow(command.jti, 0).await.status == 429 }).await;
    let refused = counted(&relay, "rate_limited", counting(&relay, hits, portal.raw.follow(command.jti, 0))).await;
    assert!(
        refused.headers.contains_key("retry-after") && refused.detail().contains("this portal"),
        "{}",
        refused.text()
    );
    assert_eq!(agents(&other.raw).await.status, 200, "another portal is served");
    session.send(agent.outcome_frame(&command, writeback_relay::protocol::outcome::Code::PasswordReset)).await;
    for wait in waits {
        assert_eq!(wait.await.unwrap().status, 200);
    }
    assert_eq!(portal.raw.follow(command.jti, 0).await.status, 200, "what was answered counts no more");
}

#[tokio::test]
async fn of_a_flood_of_refusals_the_log_has_the_clients_address_and_few_lines() {
    let settings = "[limits]\naddress_rejections_per_minute = 1000000\n[client_address]\nfrom = \"connection\"";
    let relay = Relay::start_with(settings).await;
    let portal = relay.portal("portal-1").await.raw;
    let before = relay.log().matches("a request was refused").count();
    for _ in 0..100 {
        let guess = |http: &reqwest::Client, relay: &str| http.get(format!("{relay}/v1/tenants/contoso/agents"));
        assert_eq!(portal.send(guess).await.status, 401);
    }
    let log = relay.log();
    let refusals: Vec<&str> = log.lines().filter(|line| line.contains("a request was refused")).collect();
    assert!(refusals.iter().all(|line| line.contains("\"client.address\":\"127.")), "{refusals:?}");
    // Twenty in a moment, and one in each second that it took.
    assert!((20..60).contains(&(refusals.len() - before)), "{}", refusals.len());
    assert!(counter(&relay, "writeback_limits_hits_total{limit=\"refusal_log\"}").await > 0);
    eventually("how many it left out is said", || async { relay.log().contains("\"unlogged\":") }).await;
}

#[tokio::test]
async fn a_websocket_that_is_asked_for_wrongly_is_told_what_is_right() {
    let relay = Relay::start().await;
    let asked = async |headers: &str| {
        let mut stream = connect(&relay, b"http/1.1").await;
        let head = format!("GET /v1/agent/session HTTP/1.1\r\nhost: r\r\n{headers}connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // It may be cut without a goodbye.
        let _ = deadline("it is answered", stream.read_to_end(&mut answer)).await;
        String::from_utf8(answer).unwrap().to_ascii_lowercase()
    };
    let good = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-protocol: writeback.v1\r\n";
    for version in ["", "sec-websocket-version: 8\r\n", "sec-websocket-version: 13\r\nsec-websocket-version: 8\r\n"] {
        let answer = asked(&format!("{good}{version}sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")).await;
        assert!(answer.starts_with("http/1.1 426") && answer.contains("sec-websocket-version: 13"), "{answer}");
    }
    for key in ["", "sec-websocket-key: AAAA\r\n", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAB==\r\n"] {
        let answer = asked(&format!("{good}sec-websocket-version: 13\r\n{key}")).await;
        assert!(answer.starts_with("http/1.1 400") && answer.contains("16 bytes"), "{answer}");
    }
    let listed = "upgrade: h2c, WebSocket\r\nconnection: keep-alive\r\nconnection: Upgrade\r\n\
                  sec-websocket-protocol: other, writeback.v1\r\nsec-websocket-version: 13\r\n\
                  sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    assert!(asked(listed).await.starts_with("http/1.1 401"), "all is right but the credential");
}

#[tokio::test]
async fn a_violation_of_the_websocket_protocol_is_answered_with_a_close_frame() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    for (code, reason, bytes) in [
        (1002, "websocket_error", &b"\x89\x01a"[..]),
        (1002, "websocket_error", b"\xc2\x80\x01\x02\x03\x04"),
        (1002, "websocket_error", b"\x83\x80\x01\x02\x03\x04"),
        (1002, "websocket_error", b"\x80\x80\x01\x02\x03\x04"),
        (1002, "websocket_error", b"\x82\xfe\x00\x01\x01\x02\x03\x04\x00"),
        (1002, "websocket_error", b"\x89\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04"),
        (1002, "websocket_error", b"\x88\x81\x01\x02\x03\x04\x00"),
        (1007, "invalid_text", b"\x81\x81\x00\x00\x00\x00\xff"),
        (1009, "frame_too_large", b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00\x01\x02\x03\x04"),
    ] {
        let agent = RawAgent::enrolled(&relay, &portal).await;
        let mut session = agent.open().await;
        let raw = session.0.get_mut();
        // As much behind it as would have the system reset the connection, if it were closed on unread bytes.
        raw.write_all(&[bytes, &[0; 100_000]].concat()).await.unwrap();
        let closed = session.closed().await;
        assert_eq!(closed.0, code, "{bytes:x?}: {closed:?}");
        assert!(closed.1.starts_with(reason), "{bytes:x?}: {closed:?}");
    }
}

#[tokio::test]
async fn a_connection_speaks_what_tls_has_chosen_and_the_operators_listener_http_1_alone() {
    let relay = Relay::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answered = async |mut stream: Box<dyn Stream>, bytes: &[u8]| {
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = deadline("it is answered or left", stream.read_to_end(&mut answer)).await;
        answer
    };
    let answer = answered(Box::new(connect(&relay, b"http/1.1").await), preface).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    let request = b"GET /v1/tenants/contoso/agents HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n";
    let answer = answered(Box::new(connect(&relay, b"h2").await), request).await;
    assert!(!answer.starts_with(b"HTTP/1.1"), "{answer:?}");
    let ops: std::net::SocketAddr = relay.ops_url().trim_start_matches("http://").parse().unwrap();
    let answer = answered(Box::new(TcpStream::connect(ops).await.unwrap()), preface).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    let no_host = b"GET /livez HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answer = answered(Box::new(TcpStream::connect(ops).await.unwrap()), no_host).await;
    assert!(answer.starts_with(b"HTTP/1.1 400") && String::from_utf8_lossy(&answer).contains("Host"), "{answer:?}");
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Stream for S {}
