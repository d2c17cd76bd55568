//! What holds for the whole domain: *Unexpire Password*, how soon a password may be changed, when accounts are locked,
//! and whether the password history can be enforced.

use ldap3::{Scope, SearchEntry};

use super::super::answer::diagnostic;
use super::super::connection::{RequestError, Search};
use super::super::delegation::{Reach, read_dacl};
use super::super::entry::text;
use super::super::policy_hints::PolicyHints;
use super::super::right::Right;
use super::super::security_descriptor::Verdict;
use super::Viewpoint;
use super::minimum_age::PasswordSettings;
use crate::agent::counted;
use crate::agent::directory::{Check, Finding};
use crate::protocol::remedy::Remedy;

/// Intervals are negative, in units of 100 ns.
const PER_SECOND: i64 = 10_000_000;
/// "Never", as an interval: `i64::MIN`.
const FOR_EVER: i64 = i64::MIN;

pub(super) async fn look(viewpoint: &Viewpoint<'_>, settings: &PasswordSettings) -> Result<Vec<Finding>, RequestError> {
    let domain = viewpoint.domain;
    let search = Search {
        base: domain.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: &["minPwdAge", "lockoutThreshold", "lockoutDuration", "lockOutObservationWindow"],
    };
    let (entries, result) = viewpoint.connection.search(&search).await?;
    let mut findings = vec![unexpire(viewpoint).await];
    match entries.first() {
        Some(policy) => {
            findings.push(settings.minimum_age(viewpoint.connection, domain, interval(policy, "minPwdAge")).await?);
            findings.push(lockout(domain, policy));
        }
        None => {
            let detail = format!("the domain's policy can't be read ({})", diagnostic(&result));
            findings.push(Finding::warning(Check::LockoutPolicy, domain, detail));
        }
    }
    findings.push(policy_hints(domain, viewpoint.root.policy_hints));
    Ok(findings)
}

/// It is asked for by Microsoft's documentation; this agent does not write what needs it, so it is a warning.
async fn unexpire(viewpoint: &Viewpoint<'_>) -> Finding {
    let Viewpoint { connection, domain, token, trustee, tool, .. } = viewpoint;
    let (right, check) = (Right::UnexpirePassword, Check::UnexpirePassword);
    let remedy = || tool.grant(right, trustee, domain, Reach::Object);
    match read_dacl(connection, domain).await {
        Err(error) => Finding::warning(check, domain, format!("it can't be looked at: {error}")),
        Ok(descriptor) => match descriptor.verdict(token, right.wanted()) {
            Verdict::Granted => Finding::ok(check, domain, "granted"),
            Verdict::NotGranted => {
                let detail = "Unexpire Password is missing on the domain; usually every account has it";
                Finding::warning(check, domain, detail).mended_with(Remedy::GrantRight, remedy())
            }
            Verdict::Denied(_) => {
                let detail = "Unexpire Password is denied on the domain; usually every account has it";
                Finding::warning(check, domain, detail).mended_with(Remedy::GrantRight, remedy())
            }
        },
    }
}

fn lockout(domain: &str, policy: &SearchEntry) -> Finding {
    let threshold = text(policy, "lockoutThreshold").and_then(|count| count.parse::<u32>().ok());
    let how_long = match interval(policy, "lockoutDuration") {
        Some(0) | None => "until somebody unlocks them".to_owned(),
        Some(seconds) => format!("for {}", spoken(seconds)),
    };
    match threshold {
        Some(0) => Finding::ok(Check::LockoutPolicy, domain, "accounts are never locked"),
        Some(count) => {
            let detail = format!("accounts are locked {how_long} after {count} wrong passwords");
            Finding::ok(Check::LockoutPolicy, domain, detail)
        }
        None => Finding::warning(Check::LockoutPolicy, domain, "it can't be read"),
    }
}

fn policy_hints(domain: &str, offered: Option<PolicyHints>) -> Finding {
    match offered {
        Some(hints) => {
            Finding::ok(Check::PolicyHints, domain, format!("offered ({hints}): enforce_history can be asked for"))
        }
        None => {
            let detail = "the domain controller does not offer the policy hints control, so a reset can't be held to the \
                          password history: enforce_history is answered history_unavailable";
            Finding::warning(Check::PolicyHints, domain, detail)
        }
    }
}

/// In seconds; "for ever" is 0, as an administrator sets it.
pub(super) fn interval(policy: &SearchEntry, attribute: &str) -> Option<i64> {
    let value: i64 = text(policy, attribute)?.parse().ok()?;
    Some(if value == FOR_EVER { 0 } else { value.saturating_abs() / PER_SECOND })
}

pub(super) fn spoken(seconds: i64) -> String {
    match seconds {
        ..120 => counted(usize::try_from(seconds).unwrap_or_default(), "second"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn policy(attributes: &[(&str, &str)]) -> SearchEntry {
        let attrs = attributes.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
        SearchEntry { dn: "DC=c".to_owned(), attrs: attrs.collect(), bin_attrs: HashMap::new() }
    }

    #[test]
    fn the_lockout_policy_is_told() {
        let told = |attributes: &[(&str, &str)]| lockout("DC=c", &policy(attributes)).detail;
        assert!(told(&[("lockoutThreshold", "0")]).contains("never"));
        assert!(told(&[("lockoutThreshold", "3"), ("lockoutDuration", "-18000000000")]).contains("30 minutes after 3"));
        let for_ever = told(&[("lockoutThreshold", "3"), ("lockoutDuration", "-9223372036854775808")]);
        assert!(for_ever.contains("until somebody"), "{for_ever}");
    }
}
