//! Agents and portals with keys of their own, and what portals send.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Fallible;
use crate::clock::{Clock, System};
use crate::protocol::api::AgentStatus;
use crate::protocol::assertion::PortalAssertion;
use crate::protocol::command::{Command, Operation, Options, Subject as Account};
use crate::protocol::enrollment::AgentKeys;
use crate::protocol::ids::{AgentId, CommandId, InvitationId, JournalId, ObjectId, PortalId};
use crate::protocol::jose::{PublicKey, SealingKey, SigningKey, Validity};
use crate::protocol::limits::MAX_COMMAND_LIFETIME;
use crate::protocol::password::Password;
use crate::protocol::sealed::{Secrets, seal_for};
use crate::relay::registry::{AgentRecord, PortalRecord, Snapshot, TenantRecord, TenantSnapshot};

/// The one tenant.
pub(super) const TENANT: &str = "bench";
/// What the certificate says.
pub(super) const HOST: &str = "localhost";
/// `aud` of every assertion.
pub(super) const PUBLIC_URL: &str = "https://localhost";

/// A portal shows the same assertion for half its life.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(120);

/// An agent, as its process needs it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Seat {
    /// Which of all.
    pub(super) number: usize,
    pub(super) agent: AgentId,
    pub(super) journal: JournalId,
    pub(super) signing_jwk: String,
}

/// A command, ready to be sent.
pub(super) struct Request {
    /// To which of all agents.
    pub(super) agent: usize,
    /// By which of all portals.
    pub(super) portal: usize,
    /// The JWS.
    pub(super) body: String,
}

struct Portal {
    id: PortalId,
    key: SigningKey,
    shown: Mutex<Option<(Instant, HeaderValue)>>,
}

/// Everybody.
pub(super) struct Population {
    pub(super) seats: Vec<Seat>,
    keys: Vec<AgentKeys>,
    portals: Vec<Portal>,
}

impl Population {
    pub(super) fn new(agents: usize, portals: usize) -> Fallible<Self> {
        let (mut seats, mut keys) = (Vec::new(), Vec::new());
        for number in 0..agents {
            let signing = SigningKey::generate(&System)?;
            keys.push(AgentKeys {
                signing: signing.public().clone(),
                sealing: SealingKey::generate()?.public().clone(),
            });
            let (agent, journal) = (AgentId::new(&System, &System), JournalId::new(&System, &System));
            seats.push(Seat { number, agent, journal, signing_jwk: signing.to_jwk().to_string() });
        }
        let portal = |n| {
            let key = SigningKey::generate(&System)?;
            Ok(Portal { id: format!("portal-{n}").parse()?, key, shown: Mutex::new(None) })
        };
        Ok(Self { seats, keys, portals: (0..portals).map(portal).collect::<Fallible<_>>()? })
    }

    /// What a relay has to know.
    pub(super) fn snapshot(&self) -> Fallible<Snapshot> {
        let record = |(seat, keys): (&Seat, &AgentKeys)| AgentRecord {
            agent: seat.agent,
            name: format!("host-{}", seat.number).into(),
            status: AgentStatus::Approved,
            keys: keys.clone(),
            journal: seat.journal,
            invitation: InvitationId::new(&System, &System),
            attestation: "a.b.c".into(),
            enrolled_at: System.now(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            preflight: None,
            later: Default::default(),
        };
        let agents = self.seats.iter().zip(&self.keys).map(record).collect();
        let tenant = TenantRecord { tenant: TENANT.parse()?, created_at: System.now() };
        let granted = [TENANT.parse()?];
        let portal = |portal: &Portal| PortalRecord {
            portal: portal.id.clone(),
            keys: vec![portal.key.public().clone()],
            tenants: granted.to_vec(),
            later: Default::default(),
        };
        let portals = self.portals.iter().map(portal).collect();
        Ok(Snapshot { version: 1, portals, tenants: vec![TenantSnapshot { tenant, invitations: vec![], agents }] })
    }

    /// The key of the first portal: with it the floor verifies.
    pub(super) fn portal_key(&self) -> Option<&PublicKey> {
        self.portals.first().map(|portal| portal.key.public())
    }

    /// `Authorization` of a portal's calls.
    pub(super) fn authorization(&self, portal: usize) -> Fallible<HeaderValue> {
        let Portal { id, key, shown } = self.portals.get(portal).ok_or("no such portal")?;
        let mut shown = shown.lock();
        if let Some((since, value)) = &*shown
            && since.elapsed() < ASSERTION_LIFETIME / 2
        {
            return Ok(value.clone());
        }
        let assertion = PortalAssertion {
            iss: id.clone(),
            sub: id.clone(),
            aud: PUBLIC_URL.to_owned(),
            jti: ObjectId::new(&System, &System),
            validity: Validity::starting(System.now(), ASSERTION_LIFETIME),
        };
        let value = HeaderValue::try_from(format!("Bearer {}", assertion.sign(key)?))?;
        *shown = Some((Instant::now(), value.clone()));
        Ok(value)
    }

    /// So many commands, to these agents in turn, signed and sealed now.
    pub(super) async fn requests(self: &Arc<Self>, count: usize, to: Range<usize>) -> Fallible<Vec<Request>> {
        let cores = std::thread::available_parallelism()?.get();
        let part = |core| {
            let (everybody, to) = (Arc::clone(self), to.clone());
            tokio::task::spawn_blocking(move || {
                (core..count).step_by(cores).map(|n| everybody.request(n, &to)).collect::<Fallible<Vec<_>>>()
            })
        };
        let parts: Vec<_> = (0..cores).map(part).collect();
        let mut requests = Vec::with_capacity(count);
        for part in parts {
            requests.extend(part.await??);
        }
        Ok(requests)
    }

    fn request(&self, n: usize, to: &Range<usize>) -> Fallible<Request> {
        let (agent, portal) = (to.start + n % to.len(), n % self.portals.len());
        let (seat, keys) = self.seats.get(agent).zip(self.keys.get(agent)).ok_or("no agents")?;
        let Portal { id, key, .. } = self.portals.get(portal).ok_or("no portals")?;
        let mut command = Command {
            iss: id.clone(),
            aud: seat.agent,
            tenant: TENANT.parse()?,
            jti: CommandId::new(&System, &System),
            validity: Validity::starting(System.now(), MAX_COMMAND_LIFETIME),
            sub_id: Account::upn(&format!("user-{n}@corp.example"))?,
            operation: Operation::ResetPassword,
            options: Options::default(),
            sealed: None,
        };
        let new_password = Password::new("Correct-Horse-Battery-2026".to_owned())?;
        command.sealed =
            Some(seal_for(&command, &Secrets { new_password, current_password: None }, &keys.sealing, &System)?);
        Ok(Request { agent, portal, body: command.sign(key)? })
    }
}
