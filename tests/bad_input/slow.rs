//! Clients that stop in the middle, and operators behind a proxy.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use writeback_relay::net::tls_client;

use super::{counted, counter, counting};
use crate::support::raw_agent::RawAgent;
use crate::support::relay::Relay;
use crate::support::{deadline, eventually};

async fn connect(relay: &Relay, alpn: &[u8]) -> TlsStream<TcpStream> {
    let mut config = tls_client(Some(&relay.ca_file())).unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(relay.public_addr()).await.unwrap();
    let name = rustls::pki_types::ServerName::from(relay.public_addr().ip());
    TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await.unwrap()
}

async fn everything(mut stream: impl AsyncReadExt + Unpin) -> String {
    let mut text = Vec::new();
    // A connection that is cut without a goodbye is closed all the same.
    let _ = deadline("the relay ends the connection", stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn whoever_says_nothing_or_stops_in_the_middle_is_left() {
    let relay = Relay::start().await;
    let before_tls = TcpStream::connect(relay.public_addr()).await.unwrap();
    let (silent, silent_http2) = (connect(&relay, b"http/1.1").await, connect(&relay, b"h2").await);
    let mut half_a_head = connect(&relay, b"http/1.1").await;
    half_a_head.write_all(b"GET /v1/agent/session HT").await.unwrap();
    let mut half_a_body = connect(&relay, b"http/1.1").await;
    let head = "POST /v1/enrollments HTTP/1.1\r\nhost: r\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\
                connection: close\r\n\r\n{\"tenant\":";
    half_a_body.write_all(head.as_bytes()).await.unwrap();
    let all_left = async {
        tokio::join!(
            everything(before_tls),
            everything(silent),
            everything(silent_http2),
            everything(half_a_head),
            everything(half_a_body)
        )
    };
    let hits = |limit: &str| format!("writeback_limits_hits_total{{limit=\"{limit}\"}}");
    let (body_timeout, header_timeout) = (hits("body_timeout"), hits("header_timeout"));
    let all_left = counting(&relay, &body_timeout, all_left);
    let (_, _, _, _, body) = counted(&relay, "request_timeout", all_left).await;
    assert!(body.starts_with("HTTP/1.1 408") && body.contains("request_timeout"), "{body}");
    // Two that have said nothing since the handshake, and one that stopped within its headers.
    eventually("they are counted", || async { counter(&relay, &header_timeout).await == 3 }).await;
}

#[tokio::test]
async fn clients_that_stop_in_the_middle_of_a_handshake_keep_out_no_portal_and_agents_not_for_long() {
    let relay = Relay::start_with("[limits]\ntls_handshakes = 1").await;
    let portal = relay.portal("portal-1").await;
    let hello = {
        let mut config = tls_client(Some(&relay.ca_file())).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = rustls::pki_types::ServerName::from(relay.public_addr().ip());
        let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hello
    };
    // Like agents that are gone again: each keeps the one place for a tenth of a second, and nobody waits longer than three.
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut tcp = TcpStream::connect(relay.public_addr()).await.unwrap();
        tcp.write_all(&hello).await.unwrap();
        silent.push(tcp);
    }
    let overloaded = "writeback_tls_handshakes_total{result=\"overloaded\"}";
    let asked = portal.raw.send(|http, relay| http.get(format!("{relay}/v1/tenants/contoso/agents"))).await;
    assert_eq!(asked.problem(), "invalid_assertion", "it was answered");
    assert_eq!(counter(&relay, overloaded).await, 0, "and had not to wait");
    let last = || async { (5..=12).contains(&counter(&relay, overloaded).await) };
    eventually("the last of them get no place", last).await;
    assert!(counter(&relay, "writeback_limits_hits_total{limit=\"tls_handshakes\"}").await >= 5);
    // Whoever comes then gets in.
    RawAgent::enrolled(&relay, &portal).await.open().await;
}

#[tokio::test]
async fn the_admin_token_goes_to_no_proxy() {
    let relay = Relay::start().await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let listing = tokio::task::spawn_blocking({
        let (ops, token) = (relay.ops_url(), relay.data_dir().join("admin.token"));
        move || {
            Command::new(env!("CARGO_BIN_EXE_writeback-relay"))
                .args(["tenant", "list"])
                .env("HTTP_PROXY", &url)
                .env("http_proxy", &url)
                .env("ALL_PROXY", &url)
                .env("WRITEBACK_OPS_URL", ops)
                .env("WRITEBACK_ADMIN_TOKEN_FILE", token)
                .output()
                .unwrap()
        }
    });
    let output = tokio::select! {
        output = listing => output.unwrap(),
        _ = proxy.accept() => panic!("the proxy was asked"),
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "contoso\n", "{}", String::from_utf8_lossy(&output.stderr));
}
