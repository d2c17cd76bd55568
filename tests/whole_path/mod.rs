//! The whole path: the real portal, relay and agent as processes, and a real domain controller.

mod availability;
mod crash;
mod crash_operations;
mod failover;
mod interrupted;
mod life;
mod memory;
mod one_place;
mod operations;
mod preflight;
mod proxies;
mod refusals;
mod resets;
mod secrets;
mod setup;
mod setup_again;
mod status;

use writeback_relay::protocol::api::PreflightState;

use crate::support::agent::{Agent, samba, samba_in};
use crate::support::eventually;
use crate::support::portal_cli::PortalCli;
use crate::support::relay::{Relay, tenant};
use crate::support::samba::dc;

/// What accounts have before a test.
const OLD: &str = "Initial-Passw0rd1";
/// What they get.
const NEW: &str = "Better-Passw0rd-2";

/// All that a reset needs.
struct Stage {
    portal: PortalCli,
    agent: Agent,
    relay: Relay,
    /// What the agent enrolled with.
    code: String,
}

impl Stage {
    /// Everything is up, and the agent has checked the domain controller.
    async fn new() -> Self {
        Self::at(&dc().ldaps_url()).await
    }

    /// The same, with the domain controller at this URL.
    async fn at(url: &str) -> Self {
        Self::with(&samba(url)).await
    }

    /// The same, for accounts of the whole domain, although the service account has no rights on all of them.
    async fn everywhere(url: &str) -> Self {
        Self::with(&samba_in(url, &[], dc().service_account())).await
    }

    /// The same, with this `[directory]`.
    async fn with(directory: &str) -> Self {
        let relay = Relay::start().await;
        let portal = PortalCli::init(&relay).await;
        let agent = Agent::new(&relay);
        agent.configure(directory);
        Self::enrolled(relay, portal, agent).await
    }

    /// The same, with an agent that is configured and not enrolled.
    async fn enrolled(relay: Relay, portal: PortalCli, mut agent: Agent) -> Self {
        let code = enroll_and_approve(&portal, &agent).await;
        agent.start();
        let stage = Self { portal, agent, relay, code };
        stage.checked().await;
        stage
    }

    /// Waits until the agent has a session and the relay has its preflight, of which nothing failed.
    async fn checked(&self) {
        let admin = self.relay.admin();
        eventually("the agent has checked its directory", || async {
            let sessions = admin.sessions().await.unwrap();
            let agents = admin.agents(&tenant()).await.unwrap();
            let preflight = agents.iter().find_map(|agent| agent.preflight.as_ref());
            !sessions.is_empty() && preflight.is_some_and(|report| report.worst() != PreflightState::Failed)
        })
        .await;
    }
}

/// Enrols the agent with a code of the portal, and approves it with the fingerprint that it printed. Gives the code.
async fn enroll_and_approve(portal: &PortalCli, agent: &Agent) -> String {
    let code = portal.invite().await;
    let said = agent.enroll(&code).await;
    assert_eq!(said.status, 0, "{said:?}");
    let said = portal.approve(agent.id(), &fingerprint(&said.out)).await;
    assert_eq!(said.status, 0, "{said:?}");
    code
}

/// The fingerprint that `enroll` printed.
fn fingerprint(said: &str) -> String {
    said.lines().find_map(|line| line.strip_prefix("fingerprint")).expect("a fingerprint").trim().to_owned()
}

/// Only the new password logs on, over LDAP and with Kerberos.
async fn only_new_logs_on(upn: &str) {
    assert_eq!(dc().bind(upn, NEW).await, Ok(()));
    assert!(dc().kinit(upn, NEW));
    only_old_is_wrong(upn).await;
}

async fn only_old_is_wrong(upn: &str) {
    assert_eq!(dc().bind(upn, OLD).await, Err("52e".to_owned()));
    assert!(!dc().kinit(upn, OLD));
}
