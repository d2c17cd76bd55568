//! Whether resets can work: each domain controller is reached anew, as at the agent's start, and the first that works is
//! asked about rights and policies.
//!
//! | module | what |
//! |---|---|
//! | `reach` | each controller: its name, TCP, TLS, logon, clock |
//! | `certificate` | how long its certificate is good |
//! | `rights` | what the service account may do with a unit's users |
//! | `cause` | why it may not |
//! | `service_account` | when the service account ends, and what else it may do |
//! | `domain` | *Unexpire Password*, and the domain's policies |

mod cause;
mod certificate;
mod domain;
mod reach;
mod rights;
mod service_account;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use self::reach::Reached;
use super::class::Classes;
use super::connection::{Connection, RequestError};
use super::controller::{Bound, Controller, RootDse};
use super::delegation::Tool;
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
    /// Of the accounts that there may be.
    classes: Classes,
}

/// So many controllers are asked at a time.
const AT_A_TIME: usize = 16;

/// What becomes of each, in their order.
pub(super) async fn side_by_side<T>(asked: Vec<impl Future<Output = T>>) -> Vec<T> {
    stream::iter(asked).buffered(AT_A_TIME).collect().await
}

/// All findings. While one controller works, what is wrong with another is a warning.
pub(super) async fn preflight(controllers: &[Arc<Controller>], clock: &dyn Clock) -> Vec<Finding> {
    let looked = side_by_side(controllers.iter().map(|controller| reach::reach(controller, clock)).collect()).await;
    let one_works = looked.iter().any(|(_, reached)| reached.is_some());
    let (mut findings, mut unanswered, mut used) = (Vec::new(), Vec::new(), false);
    for (controller, (mut own, reached)) in controllers.iter().zip(looked) {
        soften(&mut own, one_works);
        findings.extend(own);
        let Some(Reached { connection, root, domain }) = reached else { continue };
        let base_dns = controller.base_dns(&domain);
        if !used {
            let name = controller.service_account().name();
            match look(&connection, &root, &domain, name, &base_dns, clock).await {
                Ok(found) => {
                    used = true;
                    // What another controller could not say is said now.
                    unanswered.clear();
                    findings.extend(found);
                }
                Err(error) => {
                    let detail = format!("{}: the rights could not be looked at: {error}", controller.name());
                    let of_unit = |base_dn| Finding::failed(Check::BaseDn, base_dn, detail.clone());
                    unanswered = base_dns.iter().map(String::as_str).map(of_unit).collect();
                    continue;
                }
            }
        }
        controller.keep(Bound { connection, base_dns, policy_hints: root.policy_hints });
    }
    findings.extend(unanswered);
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
    connection: &Connection,
    root: &RootDse,
    domain: &str,
    service_account: &str,
    base_dns: &[String],
    clock: &dyn Clock,
) -> Result<Vec<Finding>, RequestError> {
    let trustee = Trustee::find(connection, domain, service_account).await?;
    let token = root.token_groups.iter().chain(&trustee.sid).cloned().collect();
    let tool = Tool::of(root.is_samba);
    let classes = Classes::of_schema(connection).await?;
    let viewpoint = Viewpoint { connection, domain, root, token, trustee, tool, classes };
    let mut findings = Vec::new();
    for base_dn in base_dns {
        findings.extend(rights::of_unit(&viewpoint, base_dn).await?);
    }
    findings.extend(domain::look(&viewpoint).await?);
    findings.extend(service_account::look(&viewpoint, base_dns, clock.now()).await?);
    Ok(findings)
}
