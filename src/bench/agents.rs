//! Agents that answer whatever they are asked, at once: one process holds as many as it may have files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, stream};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::tungstenite::Message;

use super::Fallible;
use super::nats::Nats;
use super::population::{PUBLIC_URL, Seat, TENANT};
use super::subject::Subject;
use super::wire::{Dialer, Socket};
use crate::clock::{Clock, System};
use crate::host;
use crate::protocol::assertion::AgentAssertion;
use crate::protocol::command::Command;
use crate::protocol::frame::{FromAgent, FromRelay, SUBPROTOCOL, v1};
use crate::protocol::ids::{InstanceId, ObjectId};
use crate::protocol::jose::{SigningKey, Validity};
use crate::protocol::outcome::{Code, Outcome};

/// A relay that is busy asks an agent to come again; more often than this, and it does not serve.
const ATTEMPTS: usize = 20;

/// What a process of agents has to do.
#[derive(Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) subject: Subject,
    pub(super) server: SocketAddr,
    pub(super) ca: PathBuf,
    pub(super) seats: Vec<Seat>,
    /// So many connect at the same time.
    pub(super) at_once: usize,
    /// Only TCP and TLS: what a storm costs at least.
    pub(super) bare: bool,
}

/// What it has done, as a line of JSON on its standard output.
#[derive(Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) seconds: f64,
    /// How often a server was too busy.
    pub(super) refused: usize,
}

/// Opens the connections that are ordered in `file`, says so, and answers until the process is killed.
///
/// # Errors
/// If a connection can't be opened, or ends.
pub async fn hold(file: &Path) -> Fallible<()> {
    let orders: Orders = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let dialer = Dialer::new(orders.server, &orders.ca)?;
    let begun = Instant::now();
    let (mut serving, mut bare, mut refused) = (JoinSet::new(), Vec::new(), 0);
    if orders.bare {
        let connecting = orders.seats.iter().map(|seat| dialer.connect(seat.number));
        let mut connecting = stream::iter(connecting).buffer_unordered(orders.at_once);
        while let Some(connection) = connecting.next().await {
            bare.push(connection?);
        }
    } else {
        let opening = orders.seats.into_iter().map(|seat| open(orders.subject, &dialer, seat));
        let mut opening = stream::iter(opening).buffer_unordered(orders.at_once);
        while let Some(opened) = opening.next().await {
            let (agent, busy) = opened?;
            refused += busy;
            serving.spawn(agent.serve());
        }
    }
    let opened = serde_json::to_string(&Opened { seconds: begun.elapsed().as_secs_f64(), refused })?;
    host::print(&format!("{opened}\n"))?;
    match serving.join_next().await {
        Some(ended) => ended?,
        // Bare connections are only held.
        None => std::future::pending().await,
    }
}

enum Agent {
    Relay(Socket, SigningKey, Duration),
    Floor(Socket),
    Nats(Nats),
}

/// An agent, and how often it was asked to come again.
async fn open(subject: Subject, dialer: &Dialer, seat: Seat) -> Fallible<(Agent, usize)> {
    let number = seat.number;
    match subject {
        Subject::Floor => {
            let socket = dialer.websocket(number, &format!("/agents/{number}"), vec![]).await?;
            Ok((Agent::Floor(socket), 0))
        }
        Subject::Nats | Subject::JetStream => {
            let mut nats = Nats::open(dialer, number).await?;
            nats.subscribe(&format!("agent.{number}")).await?;
            Ok((Agent::Nats(nats), 0))
        }
        Subject::Relay => {
            let key = SigningKey::from_jwk(&seat.signing_jwk)?;
            let mut refused = 0;
            loop {
                match welcome(dialer, &seat, &key).await {
                    Ok((socket, heartbeat)) => return Ok((Agent::Relay(socket, key, heartbeat), refused)),
                    Err(_) if refused < ATTEMPTS => refused += 1,
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn welcome(dialer: &Dialer, seat: &Seat, key: &SigningKey) -> Fallible<(Socket, Duration)> {
    let assertion = AgentAssertion {
        iss: seat.agent,
        sub: seat.agent,
        aud: PUBLIC_URL.to_owned(),
        tenant: TENANT.parse()?,
        jti: ObjectId::new(&System, &System),
        validity: Validity::starting(System.now(), Duration::from_secs(60)),
    };
    let authorization = format!("Bearer {}", assertion.sign(key)?).try_into()?;
    let headers = vec![(AUTHORIZATION, authorization), (SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL.try_into()?)];
    let mut socket = dialer.websocket(seat.number, "/v1/agent/session", headers).await?;
    let hello = v1::Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        instance: InstanceId::new(&System, &System).to_string(),
        journal: seat.journal.to_string(),
        unfinished: vec![],
        capacity: 1,
        portals: vec![],
        announces_portals: false,
    };
    socket.send(Message::Binary(FromAgent::Hello(hello).encode_frame().into())).await?;
    match socket.next().await.ok_or("no welcome")?? {
        Message::Binary(bytes) => match FromRelay::decode(&bytes)? {
            FromRelay::Welcome(welcome) => Ok((socket, Duration::from_millis(welcome.heartbeat_interval_ms.into()))),
            other => Err(format!("no welcome: {other:?}").into()),
        },
        other => Err(format!("no welcome: {other:?}").into()),
    }
}

impl Agent {
    async fn serve(self) -> Fallible<()> {
        match self {
            Self::Relay(socket, key, heartbeat) => serve_relay(socket, &key, heartbeat).await,
            Self::Floor(mut socket) => loop {
                if let Message::Binary(_) = socket.next().await.ok_or("the floor has hung up")?? {
                    socket.send(Message::binary(ANSWER)).await?;
                }
            },
            Self::Nats(mut nats) => loop {
                let asked = nats.next().await?;
                nats.publish(&asked.reply.ok_or("no reply is expected")?, "", ANSWER).await?;
            },
        }
    }
}

/// As long as a signed outcome.
const ANSWER: &[u8] = &[b'x'; 600];

/// As the real agent whose directory answers within a moment: it says what became of a command, and that alone.
async fn serve_relay(mut socket: Socket, key: &SigningKey, heartbeat: Duration) -> Fallible<()> {
    let mut beat = interval(heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => send(&mut socket, FromAgent::Heartbeat(v1::Heartbeat::default())).await?,
            message = socket.next() => if let Message::Binary(bytes) = message.ok_or("the relay has hung up")??
                && let FromRelay::Deliver(delivery) = FromRelay::decode(&bytes)?
            {
                let command: Command = Command::parse(&delivery.command_jws)?.unverified()?;
                let id = command.jti.to_string();
                send(&mut socket, FromAgent::Outcome(v1::Outcome { command: id, jws: outcome(command, key)? })).await?;
            }
        }
    }
}

async fn send(socket: &mut Socket, frame: FromAgent) -> Fallible<()> {
    Ok(socket.send(Message::Binary(frame.encode_frame().into())).await?)
}

fn outcome(command: Command, key: &SigningKey) -> Fallible<String> {
    let code = Code::PasswordReset;
    let outcome = Outcome {
        iss: command.aud,
        aud: command.iss,
        tenant: command.tenant,
        jti: ObjectId::new(&System, &System),
        command: command.jti,
        iat: System.now(),
        status: code.status(),
        code: code.as_str().into(),
        event_id: code.event().id(),
        detail: "the password was set".into(),
        retry_safe: false,
        retry_at: None,
        hindrances: None,
        directory_ms: 12,
        account: None,
    };
    Ok(outcome.sign(key)?)
}
