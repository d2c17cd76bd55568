//! The accounts that are left alone: that they can be told from others, and which there are.

use std::collections::BTreeSet;

use ldap3::{Scope, SearchEntry, ldap_escape};

use super::super::connection::{RequestError, Search};
use super::super::entry::{bytes, text};
use super::super::protection::{
    ControlPaths, Ground, Protection, Unresolved, builtin_rids, domain_rids, of_every_logon,
};
use super::super::security_descriptor::Sid;
use super::Viewpoint;
use super::rights::{named, people};
use crate::agent::directory::{Check, Finding};
use crate::protocol::remedy::Remedy;

/// As many accounts of administrators are counted.
const COUNTED: i32 = 20;
/// Groups within groups are followed so deep, and so many of them.
const DEPTH: usize = 8;
const GROUPS: usize = 200;

const CHECK: Check = Check::ProtectedAccounts;

/// The protected groups of the domain, and those within them.
#[derive(Default)]
pub(super) struct Groups {
    dns: BTreeSet<String>,
    /// Those that can be an account's primary group.
    rids: BTreeSet<u32>,
}

/// What holds for all units: the groups that the administrator names, and who could take over the agent. With the groups.
pub(super) async fn of_domain(
    viewpoint: &Viewpoint<'_>,
    protection: &Protection,
    ground: &Ground<'_>,
) -> Result<(Vec<Finding>, Groups), RequestError> {
    let mut findings = Vec::new();
    let failed = |why: String| Finding::failed(CHECK, viewpoint.domain, why);
    let mut own = Vec::new();
    match protection.resolved(ground).await {
        Err(error) => findings.push(failed(error.to_string())),
        Ok(groups) => {
            for group in groups {
                match group {
                    Ok(group) => own.push(group.dn),
                    Err(Unresolved(why)) => findings.push(
                        failed(format!("{why}; nobody is reset until it does")).mended_by(Remedy::ProtectedGroups),
                    ),
                }
            }
        }
    }
    match ControlPaths::read(ground).await {
        Err(error) => findings.push(failed(error.to_string()).mended_by(Remedy::ReadPermissions)),
        Ok(paths) => {
            if let Some(what) = paths.of(&of_every_logon().collect()) {
                let why = format!("every account is protected, and nobody is reset: {what}");
                findings.push(failed(why).mended_by(Remedy::ControlPath));
            }
        }
    }
    Ok((findings, groups(viewpoint, own).await?))
}

/// Which of a unit's accounts are protected.
pub(super) async fn of_unit(
    viewpoint: &Viewpoint<'_>,
    base_dn: &str,
    groups: &Groups,
) -> Result<(Option<Finding>, BTreeSet<String>), RequestError> {
    let members = groups.dns.iter().map(|dn| format!("(memberOf={})", ldap_escape(dn.as_str())));
    let primary = groups.rids.iter().map(|rid| format!("(primaryGroupID={rid})"));
    let any: String = members.chain(primary).collect();
    let filter = format!("(|(&(adminCount=*)(!(adminCount=0))){any})");
    let protected = people(base_dn, Scope::Subtree, &filter, &["sAMAccountName"]);
    let (protected, _) = viewpoint.connection.sample(COUNTED, &protected).await?;
    let finding = (!protected.is_empty()).then(|| {
        let shown = protected.iter().filter_map(|entry| text(entry, "sAMAccountName"));
        let detail = format!(
            "administrators' accounts (by their groups, or by adminCount), which are never reset: {}",
            named(shown)
        );
        Finding::ok(CHECK, base_dn, detail)
    });
    Ok((finding, protected.into_iter().map(|entry| entry.dn).collect()))
}

/// Whether the groups of an account can be read; if not, it can't be told from an administrator's. They are constructed, for
/// one account at a time.
pub(super) async fn groups_are_shown(viewpoint: &Viewpoint<'_>, dn: &str) -> Result<bool, RequestError> {
    let search = Search {
        base: dn.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=user)".to_owned(),
        attributes: &["objectSid", "tokenGroups"],
    };
    let (entries, _) = viewpoint.connection.search(&search).await?;
    let shown = |entry: &SearchEntry| !bytes(entry, "tokenGroups").is_empty() && !bytes(entry, "objectSid").is_empty();
    // One that is gone meanwhile lacks nothing.
    Ok(entries.iter().all(shown))
}

/// From the groups down: members are asked for by their groups, which is cheap in a domain of any size.
async fn groups(viewpoint: &Viewpoint<'_>, own: Vec<String>) -> Result<Groups, RequestError> {
    let domain = Search {
        base: viewpoint.domain.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: &["objectSid"],
    };
    let (entries, _) = viewpoint.connection.search(&domain).await?;
    let domain = entries.first().and_then(|entry| Sid::read(bytes(entry, "objectSid").first()?));
    let builtin = builtin_rids().map(|rid| Sid::nt(&[32, rid]));
    let of_the_domain = domain_rids().filter_map(|rid| Some(domain.as_ref()?.with(rid)));
    let by_sid: String = builtin.chain(of_the_domain).map(|sid| format!("(objectSid={})", sid.in_a_filter())).collect();
    let by_dn: String = own.iter().map(|dn| format!("(distinguishedName={})", ldap_escape(dn.as_str()))).collect();
    let mut groups = Groups::default();
    let mut new = found(viewpoint, &format!("{by_sid}{by_dn}"), &mut groups).await?;
    for _ in 0..DEPTH {
        if new.is_empty() || groups.dns.len() > GROUPS {
            break;
        }
        let within: String = new.iter().map(|dn| format!("(memberOf={})", ldap_escape(dn.as_str()))).collect();
        new = found(viewpoint, &within, &mut groups).await?;
    }
    Ok(groups)
}

/// Adds the groups for which one of these holds; those that were not known yet.
async fn found(viewpoint: &Viewpoint<'_>, any: &str, groups: &mut Groups) -> Result<Vec<String>, RequestError> {
    let search = Search {
        base: viewpoint.domain.to_owned(),
        scope: Scope::Subtree,
        filter: format!("(&(objectClass=group)(|{any}))"),
        attributes: &["objectSid"],
    };
    let limit = i32::try_from(GROUPS).unwrap_or(i32::MAX);
    let (entries, _) = viewpoint.connection.sample(limit, &search).await?;
    let mut new = Vec::new();
    for entry in entries {
        let sid = bytes(&entry, "objectSid").first().and_then(|sid| Sid::read(sid));
        groups.rids.extend(sid.and_then(|sid| sid.rid_of_a_domain()));
        if groups.dns.insert(entry.dn.clone()) {
            new.push(entry.dn);
        }
    }
    Ok(new)
}
