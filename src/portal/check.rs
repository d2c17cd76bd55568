//! How an agent finds its directory now, and not an hour ago.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Portal, PortalError};
use crate::protocol::api::PreflightReport;
use crate::protocol::ids::{AgentId, TenantId};

/// An agent may wait for several domain controllers that don't answer.
const LONGEST: Duration = Duration::from_secs(90);
/// How often the relay is asked whether the report has come.
const PAUSE: Duration = Duration::from_secs(1);

impl Portal {
    /// Has an agent check its directory, and waits for its report. It is the agent's word as the relay hands it on: it is
    /// not signed, and a help for people.
    ///
    /// # Errors
    /// If the relay can't be asked, does not know the agent or has no session of it, or the report does not come.
    pub async fn check(&self, tenant: &TenantId, agent: AgentId) -> Result<PreflightReport, PortalError> {
        let before = self.last_report(tenant, agent).await?.map(|report| report.checked_at);
        let until = Instant::now() + LONGEST;
        self.relay.check(tenant, agent).await?;
        while Instant::now() < until {
            sleep(PAUSE).await;
            let report = self.last_report(tenant, agent).await?;
            if let Some(report) = report.filter(|report| Some(report.checked_at) != before) {
                return Ok(report);
            }
        }
        Err(PortalError::NoReport { tenant: tenant.clone(), agent, seconds: LONGEST.as_secs() })
    }

    async fn last_report(&self, tenant: &TenantId, agent: AgentId) -> Result<Option<PreflightReport>, PortalError> {
        let listed = self.relay.agents(tenant).await?;
        let found = listed.into_iter().find(|view| view.agent == agent);
        let found = found.ok_or_else(|| PortalError::UnknownAgent { tenant: tenant.clone(), agent })?;
        Ok(found.preflight)
    }
}
