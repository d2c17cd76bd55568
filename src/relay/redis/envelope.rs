//! What nodes say to each other, signed with the key that all of them share: whoever can write to Redis can't give orders.

use std::collections::HashSet;
use std::sync::Arc;

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Random, UnixTime};
use crate::protocol::ids::ObjectId;
use crate::protocol::jose::{base64url, from_base64url};
use crate::relay::bus::{Delivery, Notice};
use crate::relay::ids::{NodeId, SessionId};
use crate::relay::ledger::{CommandKey, Entry};

/// A message older than this is not acted on, nor is one that is as far ahead: every question has long been given up,
/// and the clocks of nodes go together.
const MAX_AGE_SECONDS: i64 = 60;

/// For so long a message that was acted on could be sent again and would not be too old.
const REPLAYABLE_SECONDS: i64 = 2 * MAX_AGE_SECONDS + 1;

/// One message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Message {
    /// Its own: a message is acted on once.
    id: ObjectId,
    pub(super) from: NodeId,
    to: NodeId,
    at: UnixTime,
    pub(super) body: Body,
}

/// What is said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Body {
    /// Hand this command to that session, and answer.
    Deliver { question: ObjectId, session: SessionId, entry: Box<Entry> },
    /// What became of it.
    Delivered { question: ObjectId, command: CommandKey, delivery: Delivery },
    /// Take note.
    Notice(Notice),
    /// To oneself: the subscription works.
    Probe(ObjectId),
}

/// Why a message is not acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Refused {
    #[error("a message between nodes is malformed")]
    Malformed,
    #[error("a message between nodes is signed with another key; all nodes need the same redis.cluster_key_file")]
    Signature,
    #[error("a message between nodes is for another node, or too old; compare the nodes' clocks")]
    Stale,
    #[error("a message between nodes came a second time")]
    Replayed,
}

impl Refused {
    /// In one word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Signature => "signature",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
        }
    }
}

/// Messages that were acted on: those of the current span, and of the one before it.
struct Seen {
    since: UnixTime,
    current: HashSet<ObjectId>,
    before: HashSet<ObjectId>,
}

impl Seen {
    /// Whether it is seen for the first time.
    fn first(&mut self, id: ObjectId, now: UnixTime) -> bool {
        let span = now.0.saturating_sub(self.since.0);
        if span >= REPLAYABLE_SECONDS {
            let current = std::mem::take(&mut self.current);
            self.before = if span < 2 * REPLAYABLE_SECONDS { current } else { HashSet::new() };
            self.since = now;
        }
        !self.before.contains(&id) && self.current.insert(id)
    }
}

/// Signs and verifies messages.
#[derive(Clone)]
pub(super) struct Envelopes {
    key: Arc<hmac::Key>,
    node: NodeId,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    seen: Arc<Mutex<Seen>>,
}

impl Envelopes {
    pub(super) fn new(cluster_key: &str, node: NodeId, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, cluster_key.trim().as_bytes()));
        let seen = Seen { since: clock.now(), current: HashSet::new(), before: HashSet::new() };
        Self { key, node, clock, random, seen: Arc::new(Mutex::new(seen)) }
    }

    /// This node.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// Shows whoever has the same cluster key that this node has it, too.
    pub(super) fn mark(&self) -> String {
        base64url(hmac::sign(&self.key, &marked(self.node)).as_ref())
    }

    /// Whether that node, which shows this mark, has the same cluster key.
    pub(super) fn is_mark(&self, mark: &str, node: NodeId) -> bool {
        from_base64url(mark).is_ok_and(|mark| hmac::verify(&self.key, &marked(node), &mark).is_ok())
    }

    /// 32 bytes of HMAC-SHA256, then JSON.
    pub(super) fn seal(&self, to: NodeId, body: Body) -> Result<Vec<u8>, serde_json::Error> {
        let id = ObjectId::new(&*self.clock, &*self.random);
        let message = serde_json::to_vec(&Message { id, from: self.node, to, at: self.clock.now(), body })?;
        let mut sealed = hmac::sign(&self.key, &message).as_ref().to_vec();
        sealed.extend(message);
        Ok(sealed)
    }

    pub(super) fn open(&self, sealed: &[u8]) -> Result<Message, Refused> {
        let (tag, message) = sealed.split_at_checked(32).ok_or(Refused::Malformed)?;
        hmac::verify(&self.key, message, tag).map_err(|_| Refused::Signature)?;
        let message: Message = serde_json::from_slice(message).map_err(|_| Refused::Malformed)?;
        let now = self.clock.now();
        if message.to != self.node || now.0.saturating_sub(message.at.0).abs() > MAX_AGE_SECONDS {
            return Err(Refused::Stale);
        }
        if !self.seen.lock().first(message.id, now) {
            return Err(Refused::Replayed);
        }
        Ok(message)
    }
}

/// What a mark signs: no message begins like this.
fn marked(node: NodeId) -> Vec<u8> {
    format!("mark of node {}", node.0).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::clock::System;

    /// A clock that stands where the test puts it, in seconds.
    #[derive(Debug)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst) * 1000
        }
    }

    fn node() -> NodeId {
        NodeId(ObjectId::new(&System, &System))
    }

    fn envelopes(key: &str, node: NodeId) -> Envelopes {
        Envelopes::new(key, node, System::clock(), System::random())
    }

    fn probe() -> Body {
        Body::Probe(ObjectId::new(&System, &System))
    }

    #[test]
    fn a_message_is_taken_from_a_node_with_the_same_key_and_as_it_was_sent() {
        let (me, other) = (node(), node());
        let (mine, theirs) = (envelopes("k", me), envelopes("k", other));
        let sealed = theirs.seal(me, probe()).unwrap();
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert_eq!(mine.open(&altered).unwrap_err(), Refused::Signature, "byte {i}");
        }
        assert_eq!(mine.open(&sealed[..31]).unwrap_err(), Refused::Malformed);
        assert_eq!(mine.open(&sealed).unwrap().from, other);
        let stranger = envelopes("another key", other).seal(me, probe()).unwrap();
        assert_eq!(mine.open(&stranger).unwrap_err(), Refused::Signature);
        let elsewhere = theirs.seal(other, probe()).unwrap();
        assert_eq!(mine.open(&elsewhere).unwrap_err(), Refused::Stale);
    }

    #[test]
    fn a_message_is_acted_on_once_and_not_when_it_is_old() {
        let (me, other) = (node(), node());
        let hand = Arc::new(Hand(AtomicU64::new(1_800_000_000)));
        let at = |node| Envelopes::new("k", node, Arc::clone(&hand) as Arc<dyn Clock>, System::random());
        let (mine, theirs) = (at(me), at(other));
        let start = hand.0.load(Ordering::SeqCst);
        // From a node whose clock is ahead, it is young for the longest time.
        hand.0.store(start + 60, Ordering::SeqCst);
        let sealed = theirs.seal(me, probe()).unwrap();
        hand.0.store(start, Ordering::SeqCst);
        mine.open(&sealed).unwrap();
        for later in 0..=120 {
            hand.0.store(start + later, Ordering::SeqCst);
            assert_eq!(mine.open(&sealed).unwrap_err(), Refused::Replayed, "{later} s later");
            mine.open(&theirs.seal(me, probe()).unwrap()).unwrap();
        }
        hand.0.store(start + 121, Ordering::SeqCst);
        assert_eq!(mine.open(&sealed).unwrap_err(), Refused::Stale);
        hand.0.store(start + 1000, Ordering::SeqCst);
        mine.open(&theirs.seal(me, probe()).unwrap()).unwrap();
        let seen = mine.seen.lock();
        assert_eq!((seen.before.len(), seen.current.len()), (0, 1), "what nobody can replay is forgotten");
    }

    #[test]
    fn a_mark_shows_the_key_to_those_who_have_it_and_is_good_for_one_node() {
        let (me, other) = (node(), node());
        let (mine, theirs) = (envelopes("k", me), envelopes("k", other));
        assert!(mine.is_mark(&theirs.mark(), other));
        assert!(!mine.is_mark(&theirs.mark(), me), "a mark that was copied");
        assert!(!mine.is_mark(&envelopes("another key", other).mark(), other));
        assert!(!mine.is_mark("", other));
    }
}
