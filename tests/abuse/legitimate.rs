//! What people do all day, of another tenant and from another address than the attacker's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use writeback_relay::agent::Options as AgentOptions;
use writeback_relay::clock::System;
use writeback_relay::portal::Answer;
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::ids::{InstanceId, TenantId};
use writeback_relay::protocol::outcome::Status;
use writeback_relay::protocol::password::Password;

use crate::measured::{Served, Wish};
use crate::support::in_process::InProcessAgent;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Relay, TENANT, TestPortal, tenant};
use crate::wire::websocket::{WebSocket, message};
use crate::wire::{Dialer, Sources};

const USER: &str = "jane@corp.example";
/// Nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Agents that come anew: more than come within [`PATIENCE`].
const NEWCOMERS: usize = 12;
/// Sessions that were open before the attack, beside the agent's that resets.
const HELD: usize = 3;
/// Whose agents only hold sessions: nobody sends them a command, which they would not answer.
const TAILSPIN: &str = "tailspin";
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Who does it.
pub(crate) struct Legitimate {
    portal: Arc<TestPortal>,
    _agent: InProcessAgent,
    /// One after the other: each is welcomed, or has given up, before it comes again.
    newcomers: Vec<Arc<RawAgent>>,
    came: AtomicUsize,
    dialer: Arc<Dialer>,
    held: Vec<AbortHandle>,
    lost: Arc<Mutex<Vec<String>>>,
}

impl Legitimate {
    /// Everybody enrolled, approved and online.
    pub(crate) async fn start(relay: &Relay) -> Self {
        let portal = Arc::new(relay.portal("portal-1").await);
        // One account, and a reset each second.
        let options = AgentOptions { sessions: 1, resets_per_hour: 1_000_000, ..AgentOptions::default() };
        let accounts = [USER.to_owned()];
        let agent = InProcessAgent::running_with(relay, &portal, &accounts, Duration::ZERO, options).await;
        let dialer = Arc::new(Dialer::new(relay.public_addr(), &relay.ca_file(), Sources::Home, 0));
        let quiet: TenantId = TAILSPIN.parse().unwrap();
        relay.admin().add_tenant(quiet.clone()).await.unwrap();
        relay.grant(&portal.raw.id, portal.raw.key.public(), &[TENANT, TAILSPIN]).await;
        let mut newcomers = Vec::new();
        for _ in 0..NEWCOMERS {
            newcomers.push(Arc::new(RawAgent::enrolled_in(quiet.clone(), relay, &portal).await));
        }
        let lost = Arc::<Mutex<Vec<String>>>::default();
        let mut held = Vec::new();
        for _ in 0..HELD {
            let agent = RawAgent::enrolled_in(quiet.clone(), relay, &portal).await;
            let session = WebSocket::session(&dialer, &agent, InstanceId::new(&System, &System)).await.unwrap();
            let lost = Arc::clone(&lost);
            let holding = tokio::spawn(async move {
                let why = hold(session).await;
                lost.lock().push(why);
            });
            held.push(holding.abort_handle());
        }
        Self { portal, _agent: agent, newcomers, came: AtomicUsize::new(0), dialer, held, lost }
    }

    /// Everything once, at the same time.
    pub(crate) async fn once(&self) -> Vec<Served> {
        let mut begun = JoinSet::new();
        self.begin(&mut begun);
        begun.join_all().await
    }

    /// Everything once each second, until `end` has come. Nothing that has begun is left out.
    pub(crate) async fn each_second(&self, end: impl Future<Output = ()>) -> Vec<Served> {
        let mut begun = JoinSet::new();
        let mut due = interval(Duration::from_secs(1));
        due.set_missed_tick_behavior(MissedTickBehavior::Skip);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => break,
                _ = due.tick() => self.begin(&mut begun),
            }
        }
        begun.join_all().await
    }

    fn begin(&self, begun: &mut JoinSet<Served>) {
        let (raw, dialer) = (self.portal.raw.clone(), Arc::clone(&self.dialer));
        begun.spawn(served(Wish::Availability, async move {
            let http = reqwest::Client::builder().tls_backend_preconfigured(dialer.tls()).no_proxy().build();
            let bearer = raw.assertion().sign(&raw.key).unwrap();
            let url = format!("{}/v1/tenants/{TENANT}/availability", raw.relay);
            let answer =
                http.map_err(|e| chain(&e))?.get(url).bearer_auth(bearer).send().await.map_err(|e| chain(&e))?;
            let (status, text) = (answer.status(), answer.text().await.map_err(|e| chain(&e))?);
            if text.contains("\"available\":true") { Ok(()) } else { Err(format!("{status}: {text}")) }
        }));
        let portal = Arc::clone(&self.portal);
        begun.spawn(served(Wish::Reset, async move {
            let (tenant, subject) = (tenant(), Subject::upn(USER).unwrap());
            let password = Password::new(format!("New-Passw0rd-{}", InstanceId::new(&System, &System))).unwrap();
            match portal.portal.reset(&tenant, &subject, password, Options::default(), PATIENCE).await {
                Ok(Answer::Concluded { outcome, .. }) if outcome.status == Status::Succeeded => Ok(()),
                Ok(other) => Err(format!("{other:?}")),
                Err(error) => Err(chain(&error)),
            }
        }));
        let came = self.came.fetch_add(1, Ordering::Relaxed);
        let (agent, dialer) = (Arc::clone(&self.newcomers[came % NEWCOMERS]), Arc::clone(&self.dialer));
        begun.spawn(served(Wish::Session, async move {
            let session = WebSocket::session(&dialer, &agent, InstanceId::new(&System, &System)).await;
            session.map(drop).map_err(|e| chain(&e))
        }));
    }

    /// Why sessions that were open before have ended.
    pub(crate) fn lost(&self) -> Vec<String> {
        self.lost.lock().clone()
    }
}

async fn served(wish: Wish, what: impl Future<Output = Result<(), String>>) -> Served {
    let begun = Instant::now();
    let done = timeout(PATIENCE, what).await.unwrap_or_else(|_| Err("no answer".to_owned()));
    Served { wish, took: begun.elapsed(), refused: done.err() }
}

/// Says that it is alive, as an agent does; why it has ended.
async fn hold(mut session: WebSocket) -> String {
    let mut beat = interval(HEARTBEAT);
    loop {
        tokio::select! {
            _ = beat.tick() => {
                let heartbeat = message(FromAgent::Heartbeat(v1::Heartbeat::default()));
                if let Err(error) = session.send(&heartbeat).await {
                    return chain(&error);
                }
            }
            said = session.next() => if let Err(error) = said {
                return chain(&error);
            }
        }
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    writeback_relay::net::causes(error)
}

impl Drop for Legitimate {
    fn drop(&mut self) {
        for held in &self.held {
            held.abort();
        }
    }
}
