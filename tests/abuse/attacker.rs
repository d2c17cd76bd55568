//! The attacker: a process of its own, so that what he spends is not what the others spend.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use writeback_relay::protocol::ids::{AgentId, JournalId, PortalId, TenantId};
use writeback_relay::protocol::jose::{SealingKey, SigningKey};

use crate::attacks;
use crate::measured::Account;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::RawPortal;
use crate::wire::{Dialer, Sources};

/// The argument that makes this program the attacker.
pub(crate) const ROLE: &str = "role-attacker";
/// Between two attempts of one hand: who is refused at once does not spin.
const PAUSE: Duration = Duration::from_millis(500);
/// So many connections of one variant have addresses of their own.
const ADDRESSES: u32 = 10_000;

/// What is told of a hand to which the node has said nothing bad.
const ENDED: &str = "ended";

/// What he is to do.
#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) attack: String,
    /// This one alone; all at once if absent.
    pub(crate) variant: Option<String>,
    pub(crate) target: SocketAddr,
    pub(crate) url: String,
    pub(crate) ca: PathBuf,
    pub(crate) sources: Sources,
    pub(crate) seconds: u64,
    /// He has so many times as many hands as in the short form.
    pub(crate) scale: usize,
    /// Each variant sends no more bytes than this.
    pub(crate) budget: u64,
    pub(crate) tenant: Option<TenantSeat>,
}

/// A tenant of the attacker's.
#[derive(Serialize, Deserialize)]
pub(crate) struct TenantSeat {
    pub(crate) tenant: TenantId,
    pub(crate) portal: PortalId,
    pub(crate) portal_jwk: String,
    pub(crate) pending: Vec<AgentSeat>,
    pub(crate) approved: Vec<AgentSeat>,
}

/// An agent of the attacker's.
#[derive(Serialize, Deserialize)]
pub(crate) struct AgentSeat {
    pub(crate) agent: AgentId,
    journal: JournalId,
    signing_jwk: String,
    sealing_jwk: String,
}

impl AgentSeat {
    pub(crate) fn of(agent: &RawAgent) -> Self {
        Self {
            agent: agent.agent,
            journal: agent.journal,
            signing_jwk: agent.signing.to_jwk().to_string(),
            sealing_jwk: agent.sealing.to_jwk().unwrap().to_string(),
        }
    }

    fn take(&self, orders: &Orders, tenant: &TenantId) -> RawAgent {
        let mut agent = RawAgent::of(orders.url.clone(), orders.target, &orders.ca);
        (agent.agent, agent.journal, agent.tenant) = (self.agent, self.journal, tenant.clone());
        agent.signing = SigningKey::from_jwk(&self.signing_jwk).unwrap();
        agent.sealing = SealingKey::from_jwk(&self.sealing_jwk).unwrap();
        agent
    }
}

/// What he has.
pub(crate) struct Attacker {
    pub(crate) dialer: Dialer,
    pub(crate) until: Instant,
    pub(crate) scale: usize,
    pub(crate) url: String,
    target: SocketAddr,
    ca: PathBuf,
    tenant: Option<Tenant>,
    told: Mutex<BTreeMap<String, usize>>,
}

/// What a tenant's administrator has.
pub(crate) struct Tenant {
    pub(crate) tenant: TenantId,
    pub(crate) portal: RawPortal,
    pub(crate) pending: Vec<RawAgent>,
    pub(crate) approved: Vec<RawAgent>,
}

impl Tenant {
    /// The header line that lets his portal in.
    pub(crate) fn authorization(&self) -> String {
        format!("authorization: Bearer {}", self.portal.assertion().sign(&self.portal.key).unwrap())
    }
}

impl Attacker {
    /// For the nth variant.
    fn new(orders: &Orders, variant: u32) -> Self {
        let tenant = orders.tenant.as_ref().map(|seat| Tenant {
            tenant: seat.tenant.clone(),
            portal: RawPortal {
                id: seat.portal.clone(),
                key: SigningKey::from_jwk(&seat.portal_jwk).unwrap(),
                relay: orders.url.clone(),
                ca: orders.ca.clone(),
            },
            pending: seat.pending.iter().map(|agent| agent.take(orders, &seat.tenant)).collect(),
            approved: seat.approved.iter().map(|agent| agent.take(orders, &seat.tenant)).collect(),
        });
        let within = Duration::from_secs(orders.seconds);
        let dialer = Dialer::new(orders.target, &orders.ca, orders.sources, variant * ADDRESSES);
        Self {
            dialer: dialer.paced(orders.budget, within),
            until: Instant::now() + within,
            scale: orders.scale,
            url: orders.url.clone(),
            target: orders.target,
            ca: orders.ca.clone(),
            tenant,
            told: Mutex::default(),
        }
    }

    /// An agent that is not enrolled.
    pub(crate) fn unknown_agent(&self) -> RawAgent {
        RawAgent::of(self.url.clone(), self.target, &self.ca)
    }

    /// Of an attack by a tenant.
    pub(crate) fn tenant(&self) -> &Tenant {
        self.tenant.as_ref().expect("the attack is by a tenant")
    }

    /// So many hands do this at once, each again whenever it ends, until the time is over.
    pub(crate) async fn crowd<F>(
        self: Arc<Self>,
        hands: usize,
        act: impl Fn(Arc<Self>, usize) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = io::Result<()>> + Send,
    {
        let mut crowd = JoinSet::new();
        for hand in 0..hands * self.scale {
            let (attacker, act) = (Arc::clone(&self), act.clone());
            crowd.spawn(async move {
                loop {
                    // Whatever the node says to it, he goes on.
                    let told =
                        act(Arc::clone(&attacker), hand).await.map_or_else(|e| e.to_string(), |()| ENDED.to_owned());
                    *attacker.told.lock().entry(told).or_default() += 1;
                    sleep(PAUSE).await;
                }
            });
        }
        sleep_until(self.until).await;
    }
}

/// Does what stands in the file, and prints what it has cost him.
pub(crate) async fn play(orders: &Path) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let orders: Orders = serde_json::from_slice(&std::fs::read(orders).unwrap()).unwrap();
    let attack = attacks::find(&orders.attack).unwrap();
    let chosen = attack.variants.iter().filter(|it| orders.variant.as_ref().is_none_or(|name| it.name == name));
    let acting = chosen.zip(0..).map(|(variant, number)| {
        let attacker = Arc::new(Attacker::new(&orders, number));
        async move {
            // Nothing that lasts longer is waited for.
            let _ = timeout_at(attacker.until, tokio::spawn((variant.act)(Arc::clone(&attacker)))).await;
            let told = attacker.told.lock().clone();
            Account { variant: variant.name.to_owned(), spent: attacker.dialer.spent(), told }
        }
    });
    println!("{}", serde_json::to_string(&join_all(acting).await).unwrap());
    ExitCode::SUCCESS
}
