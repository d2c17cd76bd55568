//! Connections that take a place and do nothing with it, or next to nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::http1::{Http1, request};
use crate::wire::http2::{END_HEADERS, END_STREAM, HEADERS, Http2, Method, frame, head, stream};

/// More than the node has places.
const HANDS: usize = 300;

pub(super) static ATTACK: Attack = Attack {
    name: "idle connections",
    by: By::Stranger,
    node: Node::FEW_PLACES,
    variants: &[
        Variant { name: "TCP without a byte", act: |attacker| attacker.crowd(HANDS, silent).boxed() },
        Variant { name: "HTTP/2 that answers PINGs", act: |attacker| attacker.crowd(HANDS, answers_pings).boxed() },
        Variant { name: "HTTP/1.1 kept alive", act: |attacker| attacker.crowd(HANDS, kept_alive).boxed() },
        Variant { name: "one cheap request each second", act: |attacker| attacker.crowd(HANDS, cheap).boxed() },
    ],
};

async fn silent(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    attacker.dialer.tcp().await?.read(&mut [0]).await.map(drop)
}

async fn answers_pings(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut connection = Http2::open(&attacker.dialer, &[]).await?;
    let head = head(Method::Get, "/v1/x", &[]);
    connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream(0), &head)).await?;
    connection.keep().await
}

async fn kept_alive(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut http = Http1::new(attacker.dialer.http1().await?);
    http.ask(&request("GET", "/v1/x", &[], "")).await?;
    let (mut stream, _) = http.into_parts();
    stream.read(&mut [0]).await.map(drop)
}

async fn cheap(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut http = Http1::new(attacker.dialer.http1().await?);
    loop {
        http.ask(&request("GET", "/v1/x", &[], "")).await?;
        sleep(Duration::from_secs(1)).await;
    }
}
