//! What an agent has to say on a session. It is written while the agent listens: if both sides only wrote, the sockets
//! between them would fill up, and neither would ever read.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Sink;
use tokio::time::{Sleep, sleep};

use crate::agent::execution::{Concluded, outcome_frame};
use crate::agent::link::lost::Lost;
use crate::protocol::frame::FromAgent;

/// Where frames go.
pub(super) type Outgoing = Pin<Box<dyn Sink<FromAgent, Error = Lost> + Send>>;

/// So many frames may wait for a relay that asks and does not listen. It is not heard any more until they are gone.
const ROOM: usize = 1024;

pub(super) struct Outbox {
    outgoing: Outgoing,
    frames: VecDeque<FromAgent>,
    /// Older than this session; they give way to what somebody waits for now.
    unstored: VecDeque<Concluded>,
    flushed: bool,
    /// How long the relay may take to take a frame.
    limit: Duration,
    /// Since the relay has last taken one; only while it takes none.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Outbox {
    pub(super) fn new(outgoing: Outgoing, limit: Duration) -> Self {
        let (frames, unstored) = (VecDeque::new(), VecDeque::new());
        Self { outgoing, frames, unstored, flushed: true, limit, patience: None }
    }

    /// To be written after what is there.
    pub(super) fn push(&mut self, frame: FromAgent) {
        self.frames.push_back(frame);
    }

    /// The same for a frame that may be there.
    pub(super) fn extend(&mut self, frame: Option<FromAgent>) {
        self.frames.extend(frame);
    }

    /// To be written when there is nothing else, in place of the outcomes given before.
    pub(super) fn set_unstored(&mut self, outcomes: Vec<Concluded>) {
        self.unstored = outcomes.into();
    }

    /// Whether all of it is written.
    pub(super) fn is_empty(&self) -> bool {
        self.flushed && self.frames.is_empty() && self.unstored.is_empty()
    }

    /// Whether what comes in can be answered.
    pub(super) fn has_room(&self) -> bool {
        self.frames.len() < ROOM
    }

    /// Writes all of it. When it is dropped, no frame is lost, and the next call goes on.
    ///
    /// # Errors
    /// If the connection breaks, or the relay takes no frame for too long.
    pub(super) async fn write(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Closes the way out after the frames that wait. Outcomes that are not stored have time until the next session.
    pub(super) async fn close(&mut self) -> Result<(), Lost> {
        self.unstored.clear();
        self.write().await?;
        poll_fn(|cx| self.outgoing.as_mut().poll_close(cx)).await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if let Poll::Ready(written) = self.poll_flushed(cx) {
            self.patience = None;
            return Poll::Ready(written);
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        patience.as_mut().poll(cx).map(|()| Err(Lost::Stuck))
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while !(self.frames.is_empty() && self.unstored.is_empty()) {
            ready!(self.outgoing.as_mut().poll_ready(cx))?;
            let next = self.frames.pop_front().or_else(|| self.unstored.pop_front().map(outcome_frame));
            if let Some(frame) = next {
                self.flushed = false;
                self.outgoing.as_mut().start_send(frame)?;
                self.patience = None;
            }
        }
        ready!(self.outgoing.as_mut().poll_flush(cx))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, sink};
    use tokio::sync::mpsc;

    use super::*;
    use crate::agent::testing::deadline;
    use crate::clock::System;
    use crate::protocol::frame::v1;
    use crate::protocol::ids::CommandId;

    /// A way out that holds `capacity` frames until somebody takes them.
    fn outbox(capacity: usize, limit: Duration) -> (Outbox, mpsc::Receiver<FromAgent>) {
        let (outgoing, taken) = mpsc::channel(capacity);
        let outgoing = sink::unfold(outgoing, |outgoing: mpsc::Sender<FromAgent>, frame| async {
            outgoing.send(frame).await.map_err(|_| Lost::Broken("hung up".into()))?;
            Ok(outgoing)
        });
        (Outbox::new(Box::pin(outgoing), limit), taken)
    }

    fn received(n: usize) -> FromAgent {
        FromAgent::Received(v1::Received { command: n.to_string() })
    }

    #[tokio::test]
    async fn frames_go_out_in_order_and_none_is_lost_or_doubled_when_writing_is_interrupted() {
        let (mut outbox, mut taken) = outbox(1, Duration::from_secs(60));
        let old = (CommandId::new(&System, &System), "jws".to_owned());
        outbox.set_unstored(vec![old.clone()]);
        (0..5).for_each(|n| outbox.push(received(n)));
        let mut frames = Vec::new();
        while !outbox.is_empty() {
            // Dropped wherever it has come to.
            let _ = outbox.write().now_or_never();
            frames.extend(taken.try_recv());
        }
        frames.extend(taken.try_recv());
        let expected: Vec<_> = (0..5).map(received).chain([outcome_frame(old)]).collect();
        assert_eq!(frames, expected);
    }

    #[tokio::test]
    async fn a_relay_that_takes_nothing_for_too_long_is_given_up_however_often_the_agent_looks_away() {
        let (mut outbox, _taken) = outbox(1, Duration::from_millis(30));
        (0..3).for_each(|n| outbox.push(received(n)));
        let given_up = async {
            loop {
                let looking_away = tokio::time::timeout(Duration::from_millis(1), outbox.write());
                if let Ok(written) = looking_away.await {
                    return written;
                }
            }
        };
        assert_eq!(deadline(given_up).await, Err(Lost::Stuck));
    }

    #[tokio::test]
    async fn there_is_room_until_too_much_waits() {
        let (mut outbox, mut taken) = outbox(2 * ROOM, Duration::from_secs(60));
        (0..ROOM).for_each(|n| {
            assert!(outbox.has_room());
            outbox.push(received(n));
        });
        assert!(!outbox.has_room());
        deadline(outbox.write()).await.unwrap();
        assert!(outbox.has_room() && outbox.is_empty() && taken.try_recv().is_ok());
    }
}
