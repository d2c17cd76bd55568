//! What a stranger can make a node write down.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::http1::request;
use crate::wire::http2::drain;

pub(super) static ATTACK: Attack = Attack {
    name: "log floods",
    by: By::Stranger,
    node: Node::FEW_PLACES,
    variants: &[
        Variant { name: "requests without a credential", act: |attacker| attacker.crowd(8, refused).boxed() },
        Variant { name: "paths that are not there", act: |attacker| attacker.crowd(8, no_path).boxed() },
        Variant { name: "heads that can't be read", act: |attacker| attacker.crowd(20, no_head).boxed() },
        Variant { name: "no TLS", act: |attacker| attacker.crowd(20, no_tls).boxed() },
        Variant { name: "more connections than places", act: |attacker| attacker.crowd(400, connections).boxed() },
    ],
};

/// As fast as the node answers.
async fn pipelined(attacker: &Attacker, one: &[u8]) -> io::Result<()> {
    let (reading, mut writing) = split(attacker.dialer.http1().await?);
    let many = one.repeat(50);
    let writes = async {
        loop {
            writing.write_all(&many).await?;
        }
    };
    tokio::select! {
        ended = drain(reading) => ended,
        ended = writes => ended,
    }
}

async fn refused(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    pipelined(&attacker, &request("GET", "/v1/tenants/contoso/agents", &[], "")).await
}

async fn no_path(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    pipelined(&attacker, &request("GET", "/robots.txt", &[], "")).await
}

async fn no_head(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut tls = attacker.dialer.http1().await?;
    tls.write_all(b"\x00\x01 nonsense\r\n\r\n").await?;
    drain(split(tls).0).await
}

async fn no_tls(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut tcp = attacker.dialer.tcp().await?;
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    tcp.read(&mut [0; 64]).await.map(drop)
}

async fn connections(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    attacker.dialer.tcp().await?.read(&mut [0]).await.map(drop)
}
