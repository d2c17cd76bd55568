//! What nodes say to each other, signed with the key that all of them share: whoever can write to Redis can't give orders.

use std::sync::Arc;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, UnixTime};
use crate::protocol::ids::ObjectId;
use crate::relay::bus::{Delivery, Notice};
use crate::relay::ids::{NodeId, SessionId};
use crate::relay::ledger::{CommandKey, Entry};

/// A message older than this is not acted on: every question has long been given up.
const MAX_AGE_SECONDS: i64 = 120;

/// One message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) at: UnixTime,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("a message between nodes is malformed")]
    Malformed,
    #[error("a message between nodes is signed with another key; all nodes need the same redis.cluster_key_file")]
    Signature,
    #[error("a message between nodes is for another node, or too old; compare the nodes' clocks")]
    Stale,
}

/// Signs and verifies messages.
#[derive(Clone)]
pub(super) struct Envelopes {
    key: Arc<hmac::Key>,
    node: NodeId,
    clock: Arc<dyn Clock>,
}

impl Envelopes {
    pub(super) fn new(cluster_key: &str, node: NodeId, clock: Arc<dyn Clock>) -> Self {
        Self { key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, cluster_key.trim().as_bytes())), node, clock }
    }

    /// 32 bytes of HMAC-SHA256, then JSON.
    pub(super) fn seal(&self, to: NodeId, body: Body) -> Result<Vec<u8>, serde_json::Error> {
        let message = serde_json::to_vec(&Message { from: self.node, to, at: self.clock.now(), body })?;
        let mut sealed = hmac::sign(&self.key, &message).as_ref().to_vec();
        sealed.extend(message);
        Ok(sealed)
    }

    pub(super) fn open(&self, sealed: &[u8]) -> Result<Message, Refused> {
        let (tag, message) = sealed.split_at_checked(32).ok_or(Refused::Malformed)?;
        hmac::verify(&self.key, message, tag).map_err(|_| Refused::Signature)?;
        let message: Message = serde_json::from_slice(message).map_err(|_| Refused::Malformed)?;
        let age = self.clock.now().0.saturating_sub(message.at.0);
        if message.to != self.node || age.abs() > MAX_AGE_SECONDS {
            return Err(Refused::Stale);
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    fn node() -> NodeId {
        NodeId(ObjectId::new(&System, &System))
    }

    #[test]
    fn a_message_is_taken_from_a_node_with_the_same_key_and_as_it_was_sent() {
        let (me, other) = (node(), node());
        let envelopes = |key: &str, node| Envelopes::new(key, node, System::clock());
        let (mine, theirs) = (envelopes("k", me), envelopes("k", other));
        let probe = || Body::Probe(ObjectId::new(&System, &System));
        let sealed = theirs.seal(me, probe()).unwrap();
        assert_eq!(mine.open(&sealed).unwrap().from, other);
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert_eq!(mine.open(&altered).unwrap_err(), Refused::Signature, "byte {i}");
        }
        assert_eq!(mine.open(&sealed[..31]).unwrap_err(), Refused::Malformed);
        let stranger = envelopes("another key", other).seal(me, probe()).unwrap();
        assert_eq!(mine.open(&stranger).unwrap_err(), Refused::Signature);
        let elsewhere = theirs.seal(other, probe()).unwrap();
        assert_eq!(mine.open(&elsewhere).unwrap_err(), Refused::Stale);
    }
}
