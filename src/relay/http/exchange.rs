//! A request, from its head to the last byte of its answer, and the connection that it is on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::client_address::Origin;
use super::connections::{Place, TooMany};
use crate::protocol::ids::PortalId;
use crate::relay::limits::{Counted, Exceeded, Limits};
use crate::telemetry::limit::Limit;

/// Requests at a time of a connection without a credential. HTTP/2 lets more come before any of them is answered.
const AT_A_TIME: u32 = 8;
/// All that such a connection may ask.
const IN_ALL: u32 = 16;
/// What nobody registered has signed is refused so long after it came: how long it takes to find that out says who is registered.
const REFUSED_AFTER: Duration = Duration::from_millis(5);
/// An answer that is not taken for so long ends its connection: whoever has asked wanted it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection has to show a valid credential within this time.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(10);
/// An HTTP/2 connection on which nothing is asked is kept for so long: longer than clients keep theirs. In HTTP/1.1 hyper's
/// clock for headers runs meanwhile.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Whoever was told to leave, and has nothing under way, leaves within this time.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(10);

/// What makes a connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// At once, for this limit.
    Closed(Limit),
    /// It is told to leave.
    Idle,
}

/// One connection, as its requests see it.
pub(super) struct Peer {
    /// Its place. The operator's listener has none.
    pub(super) place: Option<Arc<Place>>,
    /// Who has connected.
    address: IpAddr,
    /// Who the client is, if that is known; or the proxy, whose requests say it.
    client: Option<IpAddr>,
    origin: Origin,
    /// It is to end when what is under way on it is done.
    pub(super) leaving: CancellationToken,
    authenticated: CancellationToken,
    /// Requests that came before there was a credential, and are not answered.
    anonymous: AtomicU32,
    /// Requests that were answered and have shown none.
    asked: AtomicU32,
    since: Instant,
    answers: Mutex<Answers>,
}

struct Answers {
    /// Requests that are not answered to the last byte, and since when their answers can be taken.
    under_way: BTreeMap<u32, Option<Instant>>,
    next: u32,
    /// Since when there has been none.
    idle_since: Instant,
}

impl Peer {
    pub(super) fn new(
        place: Option<Arc<Place>>,
        address: IpAddr,
        (client, origin): (Option<IpAddr>, Origin),
        since: Instant,
        leaving: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            place,
            address,
            client,
            origin,
            leaving,
            authenticated: CancellationToken::new(),
            anonymous: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            since,
            answers: Mutex::new(Answers { under_way: BTreeMap::new(), next: 0, idle_since: Instant::now() }),
        })
    }

    fn is_authenticated(&self) -> bool {
        self.place.as_ref().is_none_or(|place| place.is_authenticated())
    }

    /// Whether anything was asked yet.
    pub(super) fn was_asked(&self) -> bool {
        self.answers.lock().next > 0
    }

    /// What has to happen to this connection, whose client was told to leave at that time.
    pub(super) fn due(&self, now: Instant, told: Option<Instant>) -> Option<Due> {
        if !self.is_authenticated() && now - self.since > AUTHENTICATION_TIMEOUT {
            let silent = !self.was_asked();
            return Some(Due::Closed(if silent { Limit::HeaderTimeout } else { Limit::AuthenticationTimeout }));
        }
        let answers = self.answers.lock();
        if answers.under_way.values().flatten().any(|since| now - *since > ANSWER_TIMEOUT) {
            return Some(Due::Closed(Limit::AnswerTimeout));
        }
        let idle = answers.under_way.is_empty().then_some(answers.idle_since)?;
        match told {
            Some(told) if now - told.max(idle) > LEAVING_TIMEOUT => Some(Due::Closed(Limit::AnswerTimeout)),
            None if now - idle > IDLE_TIMEOUT => Some(Due::Idle),
            _ => None,
        }
    }

    /// Begins with a request. Without a credential there are few at a time, until the first of them shows one.
    pub(super) async fn begin(self: &Arc<Self>, headers: &HeaderMap) -> Result<Arc<Exchange>, TooMany> {
        let number = {
            let mut answers = self.answers.lock();
            let number = answers.next;
            answers.next = number.wrapping_add(1);
            answers.under_way.insert(number, None);
            number
        };
        let anonymous = !self.is_authenticated();
        self.anonymous.fetch_add(u32::from(anonymous), Ordering::Relaxed);
        let client = self.client.map(|peer| self.origin.of_request(peer, headers));
        let (peer, held, logged) = (Arc::clone(self), Mutex::default(), OnceLock::new());
        let exchange = Exchange { peer, number, anonymous, client, held, logged };
        let (now, so_far) = (self.anonymous.load(Ordering::Relaxed), self.asked.load(Ordering::Relaxed));
        match &self.place {
            // It was told to leave, and stays.
            Some(place) if anonymous && so_far >= IN_ALL => Err(place.refused()),
            Some(place) if now > AT_A_TIME => place.wait_for(self.authenticated.cancelled()).await,
            _ => Ok(()),
        }?;
        Ok(Arc::new(exchange))
    }
}

/// A request that is under way.
pub(in crate::relay) struct Exchange {
    peer: Arc<Peer>,
    number: u32,
    anonymous: bool,
    /// Who it is from, if that is known.
    client: Option<IpAddr>,
    /// One of as many as its portal may have.
    held: Mutex<Option<Counted>>,
    /// Whether its refusal is written to the log.
    logged: OnceLock<bool>,
}

impl Exchange {
    /// Its connection.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Who it is from, if that is known.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Who it is from, as far as that is known: behind a load balancer that does not say, that one.
    pub(in crate::relay) fn who(&self) -> IpAddr {
        self.client.unwrap_or(self.peer.address)
    }

    /// While its credential is looked at, its connection is not closed for a newcomer.
    pub(super) async fn served<T>(&self, looked_at: impl Future<Output = T>) -> T {
        let _served = self.peer.place.as_ref().map(|place| place.served());
        looked_at.await
    }

    /// The same for a portal's: an answer that would tell by its time who is known is given at a time of its own.
    pub(super) async fn judged<T>(&self, judged: impl Future<Output = T>, tells: impl FnOnce(&T) -> bool) -> T {
        let told = Instant::now() + REFUSED_AFTER;
        let judged = self.served(judged).await;
        if tells(&judged) {
            sleep_until(told).await;
        }
        judged
    }

    /// It has shown a portal's valid credential.
    pub(super) fn is_portals(&self, portal: &PortalId, limits: &Limits) -> Result<(), Exceeded> {
        *self.held.lock() = Some(limits.request(portal)?);
        if let Some(place) = &self.peer.place {
            place.is_portals(portal)?;
        }
        self.peer.authenticated.cancel();
        Ok(())
    }

    /// It has shown an agent's valid credential.
    pub(super) fn is_agents(&self) {
        if let Some(place) = &self.peer.place {
            place.is_agents();
        }
        self.peer.authenticated.cancel();
    }

    /// Whether its refusal is written to the log: so that there is a line for each, and few for those who send many.
    pub(super) fn is_logged(&self, limits: &Limits) -> bool {
        *self.logged.get_or_init(|| limits.logs_refusal(self.client))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.anonymous {
            self.peer.anonymous.fetch_sub(1, Ordering::Relaxed);
            if !self.peer.is_authenticated() && self.peer.asked.fetch_add(1, Ordering::Relaxed) + 1 >= IN_ALL {
                self.peer.leaving.cancel();
            }
        }
        let mut answers = self.peer.answers.lock();
        answers.under_way.remove(&self.number);
        answers.idle_since = Instant::now();
    }
}

/// An answer's body. The exchange is over when it has been taken, or can't be any more.
pub(super) struct Answer {
    body: Body,
    _exchange: Arc<Exchange>,
}

impl Answer {
    pub(super) fn new(body: Body, exchange: Arc<Exchange>) -> Self {
        exchange.peer.answers.lock().under_way.insert(exchange.number, Some(Instant::now()));
        Self { body, _exchange: exchange }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
