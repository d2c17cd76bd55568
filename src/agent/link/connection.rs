//! Dials the relay: TCP, a proxy if there is one, TLS, and the WebSocket upgrade, each with a deadline.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::agent::home::Identity;
use crate::agent::keyring::Keyrings;
use crate::agent::link::lost::Lost;
use crate::agent::link::session::{Frames, STEP};
use crate::agent::options::Options;
use crate::clock::{Clock, Random, UnixTime};
use crate::net::outbound::{Outbound, OutboundError};
use crate::net::{CONNECT_TIMEOUT, NetError, causes, clock_ahead, retry_after};
use crate::protocol::assertion::AgentAssertion;
use crate::protocol::frame::{FrameError, FromAgent, FromRelay, SUBPROTOCOL};
use crate::protocol::ids::ObjectId;
use crate::protocol::jose::{JoseError, Validity};
use crate::protocol::json;
use crate::protocol::limits::MAX_FRAME_BYTES;
use crate::protocol::problem::{Problem, ProblemCode};
use crate::protocol::untrusted::Untrusted;

/// One handshake. A host whose clock is a minute wrong is told so here, and not when a command comes.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(60);

/// A problem is a few hundred bytes.
const MAX_PROBLEM_BYTES: usize = 16 * 1024;

/// Assertions are refused when clocks differ by a minute. Half of that is worth a word.
const WORTH_SAYING: i64 = 30;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// Nobody there, or nobody to be trusted.
    #[error("{0}")]
    Unreachable(String),
    /// The relay answered, and said no.
    #[error("the relay answered {status}: {message}")]
    Refused { status: u16, code: Untrusted, message: String, retry_after: Option<Duration> },
    /// The assertion can't be signed.
    #[error(transparent)]
    Signing(#[from] JoseError),
}

impl DialError {
    /// Whether the relay may have forgotten the agent's keys.
    pub(super) fn is_unknown_key(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == *ProblemCode::InvalidAssertion.as_str())
    }
}

/// Dials one relay as one agent.
pub(in crate::agent) struct Dialer {
    outbound: Outbound,
    identity: Arc<Identity>,
    keys: Arc<Keyrings>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Dialer {
    pub(in crate::agent) fn new(
        options: &Options,
        identity: Arc<Identity>,
        keys: Arc<Keyrings>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, NetError> {
        let outbound = Outbound::new(&options.access())?;
        Ok(Self { outbound, identity, keys, clock, random })
    }

    /// At any of the relay's addresses; those in `last` are tried after others.
    pub(super) async fn dial(&self, last: &[SocketAddr]) -> Result<(Frames, SocketAddr), DialError> {
        let mut nonce = [0; 16];
        self.random.fill(&mut nonce);
        let key = STANDARD.encode(nonce);
        let relay = &self.identity.relay;
        let unreachable = |what: String| DialError::Unreachable(format!("{relay}: {what}"));
        let url: Uri = format!("{relay}/v1/agent/session").parse().map_err(|_| unreachable("no URL".to_owned()))?;
        // Whether it can be signed at all.
        self.authorization()?;
        // Each address gets an assertion of its own: it opens one session.
        let request = || {
            let failed = |error: &dyn std::error::Error| OutboundError::Request(error.to_string());
            Request::get(&url)
                .header(CONNECTION, "Upgrade")
                .header(UPGRADE, "websocket")
                .header(SEC_WEBSOCKET_VERSION, "13")
                .header(SEC_WEBSOCKET_KEY, &key)
                .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
                .header(AUTHORIZATION, self.authorization().map_err(|error| failed(&error))?)
                .body(Full::default())
                .map_err(|error| failed(&error))
        };
        let late = |_| unreachable("it did not answer in time".to_owned());
        // Connecting has its own limit; this one leaves as long again for the answer.
        let answered = self.outbound.send(&url, CONNECT_TIMEOUT + STEP, last, request).await;
        let answered = answered.map_err(|e| DialError::Unreachable(format!("the relay can't be reached: {e}")))?;
        let (address, answer) = (answered.address, answered.response);
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            // A node that is going, or has too much to do, may not be the only one.
            if answer.status().is_server_error() {
                self.doubt(address);
            }
            return Err(timeout(STEP, refusal(answer, self.clock.now())).await.map_err(late)?);
        }
        let is = |name, expected: &str| answer.headers().get(name).is_some_and(|value| value == expected);
        if !is(SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes())) || !is(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
            self.doubt(address);
            return Err(unreachable(format!("it is no relay that speaks {SUBPROTOCOL}")));
        }
        let upgraded = timeout(STEP, hyper::upgrade::on(answer)).await.map_err(late)?;
        let stream = TokioIo::new(upgraded.map_err(|e| unreachable(causes(&e)))?);
        Ok((open(stream).await, address))
    }

    /// A session there came to nothing, or was lost.
    pub(super) fn doubt(&self, address: SocketAddr) {
        self.outbound.doubt(address);
    }

    fn authorization(&self) -> Result<String, JoseError> {
        Ok(format!("Bearer {}", self.assertion()?))
    }

    /// A new one for each connection: its `jti` opens one session.
    fn assertion(&self) -> Result<String, JoseError> {
        let agent = self.identity.agent;
        let assertion = AgentAssertion {
            iss: agent,
            sub: agent,
            aud: self.identity.relay.clone(),
            tenant: self.identity.tenant.clone(),
            jti: ObjectId::new(&*self.clock, &*self.random),
            validity: Validity::starting(self.clock.now(), ASSERTION_LIFETIME),
        };
        // Keys that can't be read any more stay as they were.
        let ring = self.keys.now().map_err(|_| JoseError::Key("the agent's keys can't be read"))?;
        assertion.sign(&ring.keys.signing)
    }
}

/// What a relay says when it says no.
async fn refusal(answer: Response<Incoming>, now: UnixTime) -> DialError {
    let status = answer.status().as_u16();
    let retry_after = retry_after(answer.headers());
    let ahead = clock_ahead(answer.headers(), now).unwrap_or_default();
    let body = Limited::new(answer.into_body(), MAX_PROBLEM_BYTES).collect().await;
    let problem = body.ok().and_then(|body| json::read::<Problem>(&body.to_bytes()).ok());
    let (code, mut message) = match problem {
        Some(problem) => (problem.code.clone(), problem.to_string()),
        None => (Untrusted::default(), "without saying why; is this the relay's address?".to_owned()),
    };
    if status == StatusCode::UNAUTHORIZED && ahead.abs() >= WORTH_SAYING {
        let way = if ahead > 0 { "behind" } else { "ahead of" };
        message +=
            &format!("; this host's clock is {} s {way} the relay's: set it, and keep it set by NTP", ahead.abs());
    }
    if code == *ProblemCode::UpgradeRequired.as_str() {
        message += "; something on the way takes WebSocket upgrades away, perhaps a proxy that inspects TLS: have it let \
                    them through, or not inspect connections to this host";
    }
    DialError::Refused { status, code, message, retry_after }
}

/// What becomes of a connection that was upgraded.
async fn open<S>(stream: S) -> Frames
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // Small buffers: what is read and written is a few kilobytes at the most.
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MAX_FRAME_BYTES)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    frames(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
}

fn frames<S>(socket: WebSocketStream<S>) -> Frames
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (outgoing, incoming) = socket.split();
    let incoming = incoming.filter_map(|message| {
        ready(match message {
            Ok(Message::Binary(bytes)) => Some(FromRelay::decode(&bytes).map_err(Lost::from)),
            Ok(Message::Text(_)) => Some(Err(Lost::Frame(FrameError::Malformed))),
            Ok(Message::Close(close)) => {
                let (code, reason) = close.map_or((1005, String::new()), |c| (c.code.into(), c.reason.to_string()));
                let reason = reason.into();
                Some(Err(Lost::Closed { code, reason }))
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => None,
            Err(error) => Some(Err(Lost::Broken(causes(&error)))),
        })
    });
    let outgoing = outgoing
        .with(|frame: FromAgent| ready(Ok(Message::binary(frame.encode_frame()))))
        .sink_map_err(|error: tokio_tungstenite::tungstenite::Error| Lost::Broken(causes(&error)));
    Frames { incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::agent::testing::deadline;

    #[tokio::test]
    async fn a_frame_or_a_message_that_is_too_long_ends_the_session_before_it_is_there() {
        let announced = |length: u64| [&[0x82, 127][..], &length.to_be_bytes()].concat();
        // The first of many, and each further one.
        let (begun, more) =
            ([&[0x02, 126, 0x20, 0][..], &[0; 0x2000]].concat(), [&[0x00, 126, 0x20, 0][..], &[0; 0x2000]].concat());
        for (said, again) in [
            (announced(2 << 30), vec![0; 4096]),
            (announced(u64::MAX >> 1), vec![0; 4096]),
            (announced(u64::MAX), vec![0; 4096]),
            (announced(MAX_FRAME_BYTES as u64 + 1), vec![0; 4096]),
            (begun, more),
        ] {
            let (ours, mut relays) = duplex(4096);
            let mut session = open(ours).await;
            let sent = tokio::spawn(async move {
                let mut sent = relays.write_all(&said).await.map(|()| said.len()).unwrap_or_default();
                while relays.write_all(&again).await.is_ok() {
                    sent += again.len();
                }
                // What it says of it.
                let _ = relays.read_to_end(&mut Vec::new()).await;
                sent
            });
            let end = deadline(session.incoming.next()).await.unwrap();
            assert!(matches!(end, Err(Lost::Broken(_))), "{end:?}");
            drop(session);
            let sent = deadline(sent).await.unwrap();
            assert!(sent < 4 * MAX_FRAME_BYTES, "{sent} bytes were taken");
        }
    }
}
