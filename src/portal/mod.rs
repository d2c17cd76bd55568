//! The portal's side: invites agents, trusts them, and asks them.
//!
//! | module | what |
//! |---|---|
//! | [`home`], [`config`] | the folder: configuration and signing key |
//! | [`trust_store`] | which agents this portal trusts, whatever the relay says |
//! | [`sent`] | which commands went out: their bytes until there is an end, and what verifies a late outcome |
//! | [`client`] | the calls over HTTPS |
//! | [`agents`], `judge` | what the relay says of the agents, judged by the trust store |
//! | `check` | how an agent finds its directory now |
//! | [`history`] | whose accounts it was about |
//! | [`selection`] | which agent is asked first |
//! | [`request`], [`answer`] | one reset, change or unlock, up to a verified outcome |
//! | `resume` | what a process left that died before there was an answer |
//! | [`rotation`] | a new key for this portal |
//! | [`report`], `again` | all of it, for people |

mod again;
pub mod agents;
pub mod answer;
mod check;
pub mod client;
pub mod config;
pub mod error;
pub mod history;
pub mod home;
mod judge;
pub mod report;
pub mod request;
mod resume;
pub mod rotation;
pub mod selection;
pub mod sent;
pub mod trust_store;

use std::path::Path;
use std::sync::Arc;

use crate::clock::{Clock, Random};
use crate::protocol::api::{Availability, NewInvitation};
use crate::protocol::enrolment_code::{EnrolmentCode, Secret};
use crate::protocol::ids::{InvitationId, TenantId};
use crate::protocol::jose::{PublicKey, SigningKey};
use crate::protocol::limits::INVITATION_LIFETIME;
use crate::protocol::readiness::Need;

pub use agents::{Agent, Told, Warning};
pub use answer::{Answer, Doubt};
pub use client::{ClientError, RelayClient};
pub use config::Config;
pub use error::PortalError;
pub use home::Home;
pub use rotation::{Acknowledging, RotationStatus};
pub use trust_store::{Invitation, Standing, TrustStore};

use parking_lot::Mutex;

use home::KeyStamp;
use sent::SentCommands;

/// A portal: its key, its trust, its relay. Every method may be called from many tasks at once.
pub struct Portal {
    home: Home,
    config: Config,
    /// And which file it was read from.
    key: Mutex<(Option<KeyStamp>, SigningKey)>,
    trust: TrustStore,
    sent: SentCommands,
    relay: RelayClient,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Portal {
    /// Opens the folder that [`Home::init`] made.
    ///
    /// # Errors
    /// If a file in it is missing, damaged, or open to others.
    pub fn open(home: &Path, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, PortalError> {
        let home = Home::new(home);
        let config = home.config()?;
        let key = home.signing_key()?;
        let trust = TrustStore::open(home.folder(), Arc::clone(&clock))?;
        let sent = SentCommands::open(home.folder())?;
        let relay = RelayClient::new(&config, key.clone(), Arc::clone(&clock), Arc::clone(&random))?;
        // Read again at the first use, in case it has just been replaced.
        Ok(Self { home, config, key: Mutex::new((None, key)), trust, sent, relay, clock, random })
    }

    /// The signing key as it stands now: another process may have rotated it.
    fn key(&self) -> Result<SigningKey, PortalError> {
        let stamp = self.home.key_stamp();
        let mut known = self.key.lock();
        if known.0.is_none() || known.0 != stamp {
            *known = (stamp, self.home.signing_key()?);
            self.relay.use_key(&known.1);
        }
        Ok(known.1.clone())
    }

    /// The public half of the signing key: what the relay's operator registers.
    ///
    /// # Errors
    /// If the key can't be read any more.
    pub fn public_key(&self) -> Result<PublicKey, PortalError> {
        Ok(self.key()?.public().clone())
    }

    /// Lets one agent enrol within 24 hours. With `auto_approve`, holding the code is enough: nobody compares
    /// fingerprints.
    ///
    /// # Errors
    /// If the trust store can't be written, or the relay refuses.
    pub async fn invite(&self, tenant: &TenantId, auto_approve: bool) -> Result<EnrolmentCode, PortalError> {
        let portal_key = self.key()?.kid().clone();
        let code = EnrolmentCode {
            relay: self.config.relay.clone(),
            tenant: tenant.clone(),
            invitation: InvitationId::new(&*self.clock, &*self.random),
            token: self.new_secret(),
            portal: self.config.id.clone(),
            portal_key,
            secret: self.new_secret(),
        };
        let expires_at = self.clock.now().plus(INVITATION_LIFETIME);
        // The secret is on disk before anybody can use the code: an agent that enrolled can always be verified.
        let open = Invitation { secret: code.secret.clone(), expires_at, auto_approve };
        self.trust.update(|store| store.tenant(tenant).invitations.insert(code.invitation, open))?;
        let invitation = NewInvitation { id: code.invitation, token_sha256: code.token.hash(), expires_at };
        if let Err(error) = self.relay.invite(tenant, &invitation).await {
            self.trust.update(|store| store.tenant(tenant).invitations.remove(&code.invitation))?;
            return Err(error.into());
        }
        Ok(code)
    }

    /// Whether the relay believes a reset is possible now, for any account.
    ///
    /// # Errors
    /// If the relay can't be asked, or the trust store can't be used.
    pub async fn availability(&self, tenant: &TenantId) -> Result<Availability, PortalError> {
        self.availability_of(tenant, Need::default()).await
    }

    /// Whether the relay believes that it is possible now: for one account, if one is asked about, by what is known of its
    /// domain. If it does not, its agents are looked at first: one that needs nobody's approval may have come, of which the
    /// relay is told only then.
    ///
    /// # Errors
    /// If the relay can't be asked, or the trust store can't be used.
    pub async fn availability_of(&self, tenant: &TenantId, asked: Need<'_>) -> Result<Availability, PortalError> {
        self.key()?;
        let said = self.relay.availability(tenant, asked).await?;
        if said.available || !self.agents(tenant).await?.iter().any(Agent::usable) {
            return Ok(said);
        }
        Ok(self.relay.availability(tenant, asked).await?)
    }

    fn new_secret(&self) -> Secret {
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes);
        Secret::new(bytes)
    }
}

impl std::fmt::Debug for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Portal({}, {})", self.config.id, self.config.relay)
    }
}
