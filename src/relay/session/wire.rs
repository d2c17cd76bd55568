//! Frames in and out of one socket, side by side: an agent that is still writing and does not read yet is heard.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, timeout};

use super::{Ended, Socket, SocketError};
use crate::protocol::frame::{FromAgent, FromRelay};
use crate::protocol::limits::MAX_FRAME_BYTES;

/// How long frames may wait for a peer that takes none: a half-open socket must not hold its queue for long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Commands wait in the session's queue, where they can still be taken back, and not here.
const ROOM: usize = 4;
/// An agent that leaves so much unread is not read, in bytes. It is more than the commands that may wait here: only answers
/// to what it sends fill it.
const UNREAD_BYTES: usize = 3 * MAX_FRAME_BYTES;
/// What can wait goes with the next frame, or alone after this time: most frames then cost no write of their own.
const LINGER: Duration = Duration::from_millis(100);
/// What is written last is given this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// What has happened on the socket.
pub(super) enum Moved {
    /// A frame has come.
    Frame(FromAgent),
    /// Something has come that is no frame: a ping.
    Noise,
    /// There is room again for what the relay has to say.
    Room,
}

/// What a frame takes here, in bytes.
fn weight(frame: &FromRelay) -> usize {
    size_of::<FromRelay>() + frame.encoded_len()
}

/// A socket, and the frames that wait for it.
pub(super) struct Wire<S> {
    socket: S,
    outgoing: VecDeque<FromRelay>,
    /// What they measure.
    bytes: usize,
    /// What waits can wait so long for company.
    lingers_until: Option<Instant>,
    /// Since when nothing has been taken, while something waits.
    waiting_since: Option<Instant>,
    /// The agent has closed it, as WebSockets are closed.
    closed: bool,
}

impl<S: Socket> Wire<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, outgoing: VecDeque::new(), bytes: 0, lingers_until: None, waiting_since: None, closed: false }
    }

    /// Puts a frame behind the others. It is written while [`Self::next`] is waited for.
    pub(super) fn send(&mut self, frame: FromRelay) {
        self.bytes += weight(&frame);
        self.outgoing.push_back(frame);
        self.hurry();
    }

    /// The same for a frame that can wait a moment for others.
    pub(super) fn send_soon(&mut self, frame: FromRelay) {
        let alone = self.outgoing.is_empty();
        self.bytes += weight(&frame);
        self.outgoing.push_back(frame);
        if alone {
            self.lingers_until = Some(Instant::now() + LINGER);
        } else if !self.has_room() {
            self.hurry();
        }
    }

    /// When it is time to [`Self::hurry`].
    pub(super) fn lingers_until(&self) -> Option<Instant> {
        self.lingers_until
    }

    /// What waits can wait no more.
    pub(super) fn hurry(&mut self) {
        self.lingers_until = None;
    }

    /// Whether a command may be put behind what waits.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing.len() < ROOM && self.bytes < 2 * MAX_FRAME_BYTES
    }

    /// Whether the agent is read: it takes what it is told.
    pub(super) fn listens(&self) -> bool {
        self.bytes < UNREAD_BYTES
    }

    /// Whether the agent closed it, so that it was not lost.
    pub(super) fn was_closed(&self) -> bool {
        self.closed
    }

    /// Whether the peer has taken nothing for too long.
    pub(super) fn is_stuck(&self) -> bool {
        self.waiting_since.is_some_and(|since| since.elapsed() > WRITE_TIMEOUT)
    }

    /// The agent's next frame, if `reading`; writes what waits meanwhile, and says when that has made room. Can be dropped
    /// and called again.
    pub(super) async fn next(&mut self, reading: bool) -> Result<Moved, Ended> {
        poll_fn(|cx| {
            let had_room = self.has_room();
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                // What the agent has said before it went is still there: an outcome, or that it closes the session.
                let read = if reading { self.poll_read(cx) } else { Poll::Pending };
                return if read.is_ready() { read } else { Poll::Ready(Err(error.into())) };
            }
            if self.has_room() && !had_room {
                return Poll::Ready(Ok(Moved::Room));
            }
            if !reading || !self.listens() {
                return Poll::Pending;
            }
            self.poll_read(cx)
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Moved, Ended>> {
        self.socket.poll_next_unpin(cx).map(|frame| match frame {
            Some(frame) => Ok(frame?.map_or(Moved::Noise, Moved::Frame)),
            None => {
                self.closed = true;
                Err(Ended::Lost)
            }
        })
    }

    /// Writes what waits, and nothing more.
    pub(super) async fn finish(&mut self) {
        self.hurry();
        // Nobody is left to tell if it fails.
        let _ = timeout(FAREWELL, poll_fn(|cx| self.poll_write(cx))).await;
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        if self.lingers_until.is_some() {
            return Poll::Ready(Ok(()));
        }
        let waiting = self.outgoing.len();
        let written = self.poll_all(cx);
        let progress = self.outgoing.len() < waiting;
        self.waiting_since = match (&written, self.waiting_since) {
            (Poll::Ready(_), _) => None,
            (Poll::Pending, Some(since)) if !progress => Some(since),
            (Poll::Pending, _) => Some(Instant::now()),
        };
        written
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        while !self.outgoing.is_empty() {
            std::task::ready!(self.socket.poll_ready_unpin(cx))?;
            if let Some(frame) = self.outgoing.pop_front() {
                self.bytes = self.bytes.saturating_sub(weight(&frame));
                self.socket.start_send_unpin(frame)?;
            }
        }
        // An idle session keeps no room for frames.
        self.outgoing.shrink_to_fit();
        self.socket.poll_flush_unpin(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::{FutureExt, Sink, Stream};

    use super::*;
    use crate::protocol::frame::v1;

    /// A peer that has said something and is gone: what is written to it fails.
    struct Gone(VecDeque<Result<Option<FromAgent>, SocketError>>);

    impl Stream for Gone {
        type Item = Result<Option<FromAgent>, SocketError>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    impl Sink<FromRelay> for Gone {
        type Error = SocketError;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
            Poll::Ready(Err(SocketError::Lost("broken pipe".to_owned())))
        }

        fn start_send(self: Pin<&mut Self>, _: FromRelay) -> Result<(), SocketError> {
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A peer that takes so many frames, and has always something to say.
    struct Slow(usize);

    impl Stream for Slow {
        type Item = Result<Option<FromAgent>, SocketError>;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(Some(Ok(Some(FromAgent::Heartbeat(v1::Heartbeat::default())))))
        }
    }

    impl Sink<FromRelay> for Slow {
        type Error = SocketError;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
            if self.0 == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn start_send(mut self: Pin<&mut Self>, _: FromRelay) -> Result<(), SocketError> {
            self.0 -= 1;
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
            Poll::Pending
        }
    }

    fn stored(bytes: usize) -> FromRelay {
        FromRelay::OutcomeStored(v1::OutcomeStored { command: "x".repeat(bytes) })
    }

    /// However they are put there, together or each at once.
    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_two_frames_of_bytes_and_heard_until_there_are_three() {
        let ways: [fn(&mut Wire<Slow>, FromRelay); 2] = [Wire::send, Wire::send_soon];
        for put in ways {
            let mut wire = Wire::new(Slow(0));
            put(&mut wire, stored(MAX_FRAME_BYTES));
            assert!(wire.has_room());
            put(&mut wire, stored(MAX_FRAME_BYTES));
            assert!(!wire.has_room(), "fewer than {ROOM}, and too many bytes");
            assert_eq!(wire.lingers_until(), None, "it waits for no company");
            assert!(matches!(wire.next(true).now_or_never(), Some(Ok(Moved::Frame(_)))), "it is still heard");
            put(&mut wire, stored(MAX_FRAME_BYTES));
            assert!(wire.next(true).now_or_never().is_none(), "it is not read");
            assert!(!wire.is_stuck());
            wire.waiting_since = wire.waiting_since.and_then(|since| since.checked_sub(WRITE_TIMEOUT));
            assert!(wire.next(true).now_or_never().is_none());
            assert!(wire.is_stuck(), "for a while");
            // It takes all but one.
            wire.socket.0 = 2;
            assert!(matches!(wire.next(true).now_or_never(), Some(Ok(Moved::Room))));
            assert!(matches!(wire.next(true).now_or_never(), Some(Ok(Moved::Frame(_)))));
            assert!(!wire.is_stuck());
        }
    }

    #[tokio::test]
    async fn of_small_frames_a_few_wait_here_and_commands_stay_in_their_queue() {
        let mut wire = Wire::new(Slow(0));
        for _ in 0..ROOM {
            assert!(wire.has_room());
            wire.send(stored(1));
        }
        assert!(!wire.has_room() && wire.listens());
    }

    #[tokio::test]
    async fn what_was_said_before_the_end_is_heard_although_nothing_can_be_written_any_more() {
        let beat = || FromAgent::Heartbeat(v1::Heartbeat::default());
        for (last, closed) in [(None, true), (Some(Err(SocketError::Lost("reset".to_owned()))), false)] {
            let mut wire = Wire::new(Gone([Ok(Some(beat())), Ok(Some(beat()))].into_iter().chain(last).collect()));
            wire.send(FromRelay::Heartbeat(v1::Heartbeat::default()));
            for _ in 0..2 {
                assert!(matches!(wire.next(true).await, Ok(Moved::Frame(FromAgent::Heartbeat(_)))));
            }
            assert_eq!(wire.next(true).await.err(), Some(Ended::Lost));
            assert_eq!(wire.was_closed(), closed);
        }
    }
}
