//! Whether resets can work: each domain controller is reached anew, as at the agent's start, and the first that works is
//! asked about rights and policies.
//!
//! | module | what |
//! |---|---|
//! | `reach` | each controller: its name, TCP, TLS, identity, clock |
//! | `certificate` | how long its certificate is good |
//! | `rights` | what the service account may do with a unit's users |
//! | `protected` | which of them are left alone |
//! | `cause` | why it may not |
//! | `domain` | *Unexpire Password*, and the domain's policies |
//! | `minimum_age` | how soon the users that were looked at may change their passwords again |

mod cause;
mod certificate;
mod domain;
mod minimum_age;
mod protected;
mod reach;
mod rights;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use self::minimum_age::PasswordSettings;
use self::reach::Reached;
use super::connection::{Connection, RequestError};
use super::controller::{Bound, Controller, RootDse};
use super::delegation::Tool;
use super::protection::{Ground, Protection};
use super::security_descriptor::Sid;
use super::trustee::Trustee;
use crate::agent::directory::{Check, Finding};
use crate::clock::Clock;
use crate::protocol::api::PreflightState;

/// What the service account is at one controller, and how an administrator there would help it.
struct Viewpoint<'a> {
    connection: &'a Connection,
    domain: &'a str,
    root: &'a RootDse,
    /// Who the service account is: itself, all its groups, and the like.
    token: HashSet<Sid>,
    trustee: Trustee,
    tool: Tool,
}

/// So many controllers are asked at a time.
const AT_A_TIME: usize = 16;

/// What becomes of each, in their order.
pub(super) async fn side_by_side<T>(asked: Vec<impl Future<Output = T>>) -> Vec<T> {
    stream::iter(asked).buffered(AT_A_TIME).collect().await
}

/// All findings. While one controller works, what is wrong with another is a warning. Read-only ones that DNS names beside
/// others are nobody's mistake, and left out.
pub(super) async fn preflight(
    controllers: &[Arc<Controller>],
    protection: &Protection,
    are_discovered: bool,
    clock: &dyn Clock,
) -> Vec<Finding> {
    let looked = side_by_side(controllers.iter().map(|controller| reach::reach(controller, clock)).collect()).await;
    let one_works = looked.iter().any(|(_, reached)| reached.is_some());
    let are_nobodys_mistake = are_discovered && !controllers.iter().all(|controller| controller.is_read_only());
    let (mut findings, mut not_looked_at, mut used) = (Vec::new(), Vec::new(), false);
    for (controller, (mut own, reached)) in controllers.iter().zip(looked) {
        if are_nobodys_mistake && controller.is_read_only() {
            continue;
        }
        soften(&mut own, one_works);
        findings.extend(own);
        let Some(Reached { connection, root, domain, identity }) = reached else { continue };
        let base_dns = controller.base_dns(&domain);
        if !used {
            let (name, service_account) = (controller.name(), controller.service_account().name());
            let ground = Ground { controller: name, connection: &connection, identity: &identity, base_dns: &base_dns };
            match look(&ground, &root, &domain, service_account, protection).await {
                Ok(found) => {
                    used = true;
                    findings.extend(found);
                }
                Err(error) => {
                    controller.note(false);
                    let detail = format!("the rights could not be looked at: {error}");
                    not_looked_at.push(Finding::failed(Check::RootDse, controller.name(), detail));
                    continue;
                }
            }
        }
        controller.keep(Bound { connection, base_dns, policy_hints: root.policy_hints, identity });
    }
    soften(&mut not_looked_at, used);
    findings.extend(not_looked_at);
    findings
}

/// Whether the controllers can be reached, before anybody logs on. While one can, the others are warnings.
pub(super) async fn look_for(controllers: &[Arc<Controller>], clock: &dyn Clock) -> Vec<Finding> {
    let looked = side_by_side(controllers.iter().map(|controller| reach::look_for(controller, clock)).collect()).await;
    let one_works = looked.iter().any(|(_, answers)| *answers);
    let softened = looked.into_iter().flat_map(|(mut own, _)| {
        soften(&mut own, one_works);
        own
    });
    softened.collect()
}

fn soften(findings: &mut [Finding], one_works: bool) {
    for finding in findings.iter_mut().filter(|finding| one_works && finding.state == PreflightState::Failed) {
        finding.state = PreflightState::Warning;
        finding.detail.push_str("; another domain controller answers meanwhile");
    }
}

async fn look(
    ground: &Ground<'_>,
    root: &RootDse,
    domain: &str,
    service_account: &str,
    protection: &Protection,
) -> Result<Vec<Finding>, RequestError> {
    let connection = ground.connection;
    let trustee = Trustee::find(connection, domain, service_account).await?;
    let token = root.token_groups.iter().chain(&trustee.sid).cloned().collect();
    let tool = Tool::of(root.is_samba);
    let viewpoint = Viewpoint { connection, domain, root, token, trustee, tool };
    let (mut findings, groups) = protected::of_domain(&viewpoint, protection, ground).await?;
    let mut settings = PasswordSettings::default();
    for base_dn in ground.base_dns {
        findings.extend(rights::of_unit(&viewpoint, base_dn, &groups, &mut settings).await?);
    }
    findings.extend(domain::look(&viewpoint, &settings).await?);
    Ok(findings)
}
