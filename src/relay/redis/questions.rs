//! Commands between nodes: what this node has asked others to deliver, and what it owes others an answer to.
//!
//! A refusal is answered at once. That a command is in its session's queue is said a moment later to a node that will
//! hear of the command's end, and not at all if that has come meanwhile: the end says it all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::protocol::ids::ObjectId;
use crate::relay::bus::Delivery;
use crate::relay::ids::NodeId;
use crate::relay::ledger::CommandKey;
use crate::telemetry::trace::Span;

/// Another node answers at once, or not at all.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// The same, where nobody seems to listen. Longer than a good answer waits.
pub(super) const UNCOUNTED_TIMEOUT: Duration = Duration::from_millis(750);

/// A good answer waits so long for the command's end: most commands end sooner.
pub(super) const GOOD_ANSWER_AFTER: Duration = Duration::from_millis(250);

struct Open {
    question: ObjectId,
    node: NodeId,
    reply: oneshot::Sender<Delivery>,
}

/// Questions, by the command they are about: a command is with one session at a time.
#[derive(Clone, Default)]
pub(super) struct Questions {
    /// Those that other nodes have not answered yet.
    asked: Arc<Mutex<HashMap<CommandKey, Open>>>,
    /// Those that this node has still to answer, and to whom.
    owed: Arc<Mutex<HashMap<CommandKey, NodeId>>>,
}

/// A question to another node. Dropped, it is forgotten.
pub(super) struct Question {
    questions: Questions,
    pub(super) id: ObjectId,
    pub(super) node: NodeId,
    command: CommandKey,
    answer: oneshot::Receiver<Delivery>,
    /// From the question to its answer.
    _span: Span,
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut asked = self.questions.asked.lock();
        if asked.get(&self.command).is_some_and(|open| open.question == self.id) {
            asked.remove(&self.command);
        }
    }
}

impl Question {
    /// Waits so long for the answer; without one it is `otherwise`.
    pub(super) async fn answer(mut self, limit: Duration, otherwise: Delivery) -> Delivery {
        let answered = timeout(limit, &mut self.answer).await;
        answered.ok().and_then(Result::ok).unwrap_or(otherwise)
    }
}

impl Questions {
    pub(super) fn ask(&self, id: ObjectId, node: NodeId, command: &CommandKey, span: Span) -> Question {
        let (reply, answer) = oneshot::channel();
        self.asked.lock().insert(command.clone(), Open { question: id, node, reply });
        Question { questions: self.clone(), id, node, command: command.clone(), answer, _span: span }
    }

    /// An answer has come. Only the node that was asked may give it.
    pub(super) fn answered(&self, from: NodeId, question: ObjectId, command: &CommandKey, delivery: Delivery) {
        let mut asked = self.asked.lock();
        if asked.get(command).is_some_and(|open| open.question == question && open.node == from)
            && let Some(open) = asked.remove(command)
        {
            // Whoever asked may have given up.
            let _ = open.reply.send(delivery);
        }
    }

    /// The command's end has come: it was delivered, or no longer has to be.
    pub(super) fn ended(&self, command: &CommandKey) {
        if let Some(open) = self.asked.lock().remove(command) {
            let _ = open.reply.send(Delivery::Queued);
        }
    }

    /// Before the command is handed to its session.
    pub(super) fn owe(&self, command: &CommandKey, to: NodeId) {
        self.owed.lock().insert(command.clone(), to);
    }

    /// The answer is about to be given, or need not be; whether it was owed to this node until now.
    pub(super) fn settle(&self, command: &CommandKey, to: NodeId) -> bool {
        let mut owed = self.owed.lock();
        let owes = owed.get(command) == Some(&to);
        if owes {
            owed.remove(command);
        }
        owes
    }
}
