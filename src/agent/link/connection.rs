//! Dials the relay: TCP, a proxy if there is one, TLS, and the WebSocket upgrade, each with a deadline.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use http::header::{CONNECTION, UPGRADE};
use reqwest::Response;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::agent::home::{Identity, Keys};
use crate::agent::link::lost::Lost;
use crate::agent::link::session::{Frames, STEP};
use crate::agent::options::Options;
use crate::clock::{Clock, Random};
use crate::net::{self, NetError};
use crate::protocol::assertion::AgentAssertion;
use crate::protocol::frame::{FrameError, FromAgent, FromRelay, SUBPROTOCOL};
use crate::protocol::ids::ObjectId;
use crate::protocol::jose::{JoseError, Validity};
use crate::protocol::limits::MAX_FRAME_BYTES;
use crate::protocol::problem::Problem;

/// One handshake. A host whose clock is a minute wrong is told so here, and not when a command comes.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(60);

const ACCEPT: &str = "sec-websocket-accept";
const KEY: &str = "sec-websocket-key";
const PROTOCOL: &str = "sec-websocket-protocol";
const VERSION: &str = "sec-websocket-version";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// Nobody there, or nobody to be trusted.
    #[error("{0}")]
    Unreachable(String),
    /// The relay answered, and said no.
    #[error("the relay answered {status}: {message}")]
    Refused { status: u16, code: String, message: String, retry_after: Option<Duration> },
    /// The assertion can't be signed.
    #[error(transparent)]
    Signing(#[from] JoseError),
}

/// Dials one relay as one agent.
pub(in crate::agent) struct Dialer {
    http: reqwest::Client,
    identity: Arc<Identity>,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Dialer {
    pub(in crate::agent) fn new(
        options: &Options,
        identity: Arc<Identity>,
        keys: Arc<Keys>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, NetError> {
        let http = net::websocket_client(options.ca_file.as_deref())?;
        Ok(Self { http, identity, keys, clock, random })
    }

    pub(super) async fn dial(&self) -> Result<Frames, DialError> {
        let mut nonce = [0; 16];
        self.random.fill(&mut nonce);
        let key = STANDARD.encode(nonce);
        let relay = &self.identity.relay;
        let request = self
            .http
            .get(format!("{relay}/v1/agent/session"))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(VERSION, "13")
            .header(KEY, &key)
            .header(PROTOCOL, SUBPROTOCOL)
            .bearer_auth(self.assertion()?);
        let unreachable = |what: String| DialError::Unreachable(format!("{relay}: {what}"));
        let late = |_| unreachable("it did not answer in time".to_owned());
        // The client's own limit is on TCP, proxy and TLS; this one leaves as long again for the answer.
        let answer = timeout(net::CONNECT_TIMEOUT + STEP, request.send()).await.map_err(late)?;
        let answer = answer.map_err(|e| unreachable(net::causes(&e.without_url())))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(timeout(STEP, refusal(answer)).await.map_err(late)?);
        }
        let is = |name, expected: &str| answer.headers().get(name).is_some_and(|value| value == expected);
        if !is(ACCEPT, &derive_accept_key(key.as_bytes())) || !is(PROTOCOL, SUBPROTOCOL) {
            return Err(unreachable(format!("it is no relay that speaks {SUBPROTOCOL}")));
        }
        let upgraded = timeout(STEP, answer.upgrade()).await.map_err(late)?;
        let stream = upgraded.map_err(|e| unreachable(net::causes(&e.without_url())))?;
        // Small buffers: what is read and written is a few kilobytes at the most.
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * MAX_FRAME_BYTES)
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        Ok(frames(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await))
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
        assertion.sign(&self.keys.signing)
    }
}

/// What a relay says when it says no.
async fn refusal(answer: Response) -> DialError {
    let status = answer.status().as_u16();
    let retry_after = net::retry_after(answer.headers());
    match answer.json::<Problem>().await {
        Ok(problem) => {
            let message = format!("{}: {}", problem.title, problem.detail);
            DialError::Refused { status, code: problem.code, message, retry_after }
        }
        Err(_) => {
            let message = "without saying why; is this the relay's address?".to_owned();
            DialError::Refused { status, code: String::new(), message, retry_after }
        }
    }
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
                Some(Err(Lost::Closed { code, reason }))
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => None,
            Err(error) => Some(Err(Lost::Broken(error.to_string()))),
        })
    });
    let outgoing = outgoing
        .with(|frame: FromAgent| ready(Ok(Message::binary(frame.encode_frame()))))
        .sink_map_err(|error: tokio_tungstenite::tungstenite::Error| Lost::Broken(error.to_string()));
    Frames { incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) }
}
