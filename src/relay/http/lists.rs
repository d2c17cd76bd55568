//! Answers that are made out of many agents: so many are put together at a time, and so much of them waits to be taken. One
//! portal has a part of both.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::Refusal;
use crate::protocol::ids::PortalId;
use crate::protocol::problem::ProblemCode;
use crate::relay::limits::Limits;
use crate::relay::memory::Memory;
use crate::telemetry::limit::Limit;

/// Of all portals: 12 MiB each while they are put together, and 32 MiB that wait.
const ALL: (usize, usize) = (8, 32 * 1024);
/// Of one portal: two lists that it does not take.
const EACH: (usize, usize) = (4, 8 * 1024);
/// Whoever finds no place waits for so long.
const WAIT: Duration = Duration::from_secs(1);
/// A connection is given so much of an answer at a time, in bytes.
const PIECE: usize = 16 * 1024;

/// What there may be of them.
#[derive(Clone)]
struct Room {
    turns: Arc<Semaphore>,
    /// In KiB.
    untaken: Arc<Semaphore>,
}

impl Room {
    fn new((turns, untaken): (usize, usize)) -> Self {
        Self { turns: Arc::new(Semaphore::new(turns)), untaken: Arc::new(Semaphore::new(untaken)) }
    }
}

/// Turns for those who ask for lists.
pub struct Lists {
    all: Room,
    /// There is one for each registered portal that has ever asked.
    each: Mutex<HashMap<PortalId, Room>>,
    limits: Arc<Limits>,
    memory: Arc<Memory>,
}

impl Lists {
    /// As long as there is memory.
    #[must_use]
    pub fn new(limits: Arc<Limits>, memory: Arc<Memory>) -> Self {
        Self { all: Room::new(ALL), each: Mutex::default(), limits, memory }
    }

    /// Waits for this portal's turn.
    pub(super) async fn turn(&self, portal: &PortalId) -> Result<Turn<'_>, Refusal> {
        if self.memory.is_short() {
            self.limits.hit(Limit::Memory);
            return Err(Refusal::new(ProblemCode::Overloaded, "this node is short of memory; ask again"));
        }
        let each = self.each.lock().entry(portal.clone()).or_insert_with(|| Room::new(EACH)).clone();
        // First its own: nobody waits behind all that another portal has asked for.
        let held = both(&each.turns, &self.all.turns, 1).await.ok_or_else(|| overloaded(&self.limits))?;
        Ok(Turn { lists: self, each, _held: held })
    }
}

/// Both in this order, as many of each, unless that takes too long.
async fn both(one: &Arc<Semaphore>, other: &Arc<Semaphore>, many: u32) -> Option<[OwnedSemaphorePermit; 2]> {
    let acquired = timeout(WAIT, async {
        let one = Arc::clone(one).acquire_many_owned(many).await?;
        Ok::<_, AcquireError>([one, Arc::clone(other).acquire_many_owned(many).await?])
    });
    acquired.await.ok()?.ok()
}

fn overloaded(limits: &Limits) -> Refusal {
    limits.hit(Limit::AgentLists);
    Refusal::new(ProblemCode::Overloaded, "too many lists of agents are asked for, or not taken; ask again")
}

/// A list is put together.
pub(super) struct Turn<'a> {
    lists: &'a Lists,
    each: Room,
    _held: [OwnedSemaphorePermit; 2],
}

/// What waits to be taken, and its part of the room.
struct Untaken {
    json: Vec<u8>,
    _held: [OwnedSemaphorePermit; 2],
}

impl AsRef<[u8]> for Untaken {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

impl Turn<'_> {
    /// It is finished: the answer, whose room is free again when its last byte has left.
    pub(super) async fn answer(self, list: &impl Serialize) -> Result<Response, Refusal> {
        let failed = |error| {
            tracing::error!(%error, "a list can't be written");
            Refusal::new(ProblemCode::Internal, "the relay failed; its log says why")
        };
        let json = serde_json::to_vec(list).map_err(failed)?;
        let len = json.len();
        let kib = u32::try_from(len.div_ceil(1024).min(EACH.1)).unwrap_or(u32::MAX);
        let held = both(&self.each.untaken, &self.lists.all.untaken, kib).await;
        let held = held.ok_or_else(|| overloaded(&self.lists.limits))?;
        let bytes = Bytes::from_owner(Untaken { json, _held: held });
        // In pieces: a connection that has been given all of it counts as answered.
        let pieces = (0..len).step_by(PIECE).map(move |at| Ok::<_, Infallible>(bytes.slice(at..len.min(at + PIECE))));
        let headers =
            [(CONTENT_TYPE, HeaderValue::from_static("application/json")), (CONTENT_LENGTH, HeaderValue::from(len))];
        Ok((headers, Body::from_stream(stream::iter(pieces))).into_response())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;
    use crate::relay::config::LimitsConfig;
    use crate::telemetry::metrics::Metrics;

    fn lists_with(memory: fn(Arc<Metrics>) -> Arc<Memory>) -> Lists {
        let metrics = Arc::new(Metrics::new().unwrap());
        let limits = Limits::new(&LimitsConfig::default(), false, Arc::clone(&metrics));
        Lists::new(Arc::new(limits), memory(metrics))
    }

    fn lists() -> Lists {
        lists_with(Memory::of_process)
    }

    fn portal(n: usize) -> PortalId {
        format!("portal-{n}").parse().unwrap()
    }

    #[tokio::test]
    async fn so_many_lists_are_put_together_at_a_time_and_a_portal_has_half_of_the_turns() {
        let lists = lists();
        let mut held = Vec::new();
        for n in [1, 1, 1, 1, 2, 2, 2] {
            held.push(lists.turn(&portal(n)).await.unwrap());
        }
        assert_eq!(lists.turn(&portal(1)).await.err().unwrap().code, ProblemCode::Overloaded);
        held.push(lists.turn(&portal(2)).await.unwrap());
        assert_eq!(lists.turn(&portal(3)).await.err().unwrap().code, ProblemCode::Overloaded);
        held.remove(0);
        assert!(lists.turn(&portal(3)).await.is_ok());
    }

    #[tokio::test]
    async fn no_list_is_begun_without_memory() {
        let refused = lists_with(Memory::used_up).turn(&portal(1)).await.err().unwrap();
        assert!(refused.code == ProblemCode::Overloaded && refused.detail.contains("memory"), "{refused:?}");
    }

    #[tokio::test]
    async fn what_is_not_taken_keeps_its_room_to_the_last_byte() {
        let lists = lists();
        let list = "x".repeat(4_000_000);
        let answer = async |n| lists.turn(&portal(n)).await.unwrap().answer(&list).await;
        let (one, two) = (answer(1).await.unwrap(), answer(1).await.unwrap());
        assert_eq!(answer(1).await.err().unwrap().code, ProblemCode::Overloaded);
        let of_another = answer(2).await.unwrap();
        let mut taken = to_bytes(one.into_body(), usize::MAX).await.unwrap();
        assert_eq!(taken.len(), list.len() + 2);
        assert!(taken[1..].starts_with(&list.as_bytes()[..100]));
        let last = taken.split_off(taken.len() - 1);
        drop(taken);
        drop(last);
        let three = answer(1).await.unwrap();
        assert_eq!(three.headers()[CONTENT_LENGTH], (list.len() + 2).to_string());
        // A piece that is on its way.
        let mut pieces = two.into_body().into_data_stream();
        let piece = futures_util::StreamExt::next(&mut pieces).await.unwrap().unwrap();
        drop(pieces);
        assert!(answer(1).await.is_err());
        drop((piece, of_another));
        assert!(answer(1).await.is_ok());
    }
}
