//! Clients that take their time: handshakes, heads and bodies byte by byte, and answers that are never read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::http1::request;

/// More than the node has places.
const HANDS: usize = 300;

pub(super) static ATTACK: Attack = Attack {
    name: "slow clients",
    by: By::Stranger,
    node: Node::FEW_PLACES,
    variants: &[
        Variant { name: "half a handshake", act: |attacker| attacker.crowd(HANDS, half_a_handshake).boxed() },
        Variant { name: "a ClientHello byte by byte", act: |attacker| attacker.crowd(HANDS, slow_handshake).boxed() },
        Variant { name: "a head byte by byte", act: |attacker| attacker.crowd(HANDS, slow_head).boxed() },
        Variant { name: "a body byte by byte", act: |attacker| attacker.crowd(HANDS, slow_body).boxed() },
        Variant { name: "pipelined requests, answers unread", act: |attacker| attacker.crowd(HANDS, unread).boxed() },
    ],
};

async fn trickle(mut to: impl AsyncWrite + Unpin, bytes: &[u8]) -> io::Result<()> {
    for byte in bytes {
        to.write_all(&[*byte]).await?;
        to.flush().await?;
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

async fn half_a_handshake(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut tcp = attacker.dialer.tcp().await?;
    tcp.write_all(&attacker.dialer.client_hello()).await?;
    // The node's own half, and then the end of it.
    let mut buffer = vec![0; 16 * 1024];
    while tcp.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn slow_handshake(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    trickle(attacker.dialer.tcp().await?, &attacker.dialer.client_hello()).await
}

async fn slow_head(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut tls = attacker.dialer.http1().await?;
    tls.write_all(b"GET /v1/tenants/contoso/agents HTTP/1.1\r\nhost: relay\r\n").await?;
    trickle(tls, "x-filler: x\r\n".repeat(1000).as_bytes()).await
}

async fn slow_body(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut tls = attacker.dialer.http1().await?;
    let head = "POST /v1/enrollments HTTP/1.1\r\nhost: relay\r\ncontent-type: application/json\r\ncontent-length: 16000\r\n\r\n";
    tls.write_all(head.as_bytes()).await?;
    trickle(tls, "{".repeat(16_000).as_bytes()).await
}

async fn unread(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut tls = attacker.dialer.http1_narrow().await?;
    let many = request("GET", "/v1/tenants/contoso/agents", &[], "").repeat(100);
    loop {
        tls.write_all(&many).await?;
    }
}
