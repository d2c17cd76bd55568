//! The service account itself: when it ends, whether it may do more than it should, and whether it stands among those that
//! the agent is asked about.

use std::cmp::Ordering;

use ldap3::{Scope, SearchEntry};

use super::super::connection::{RequestError, Search};
use super::super::entry::text;
use super::super::protection::well_known;
use super::super::security_descriptor::Sid;
use super::Viewpoint;
use crate::agent::directory::{Check, Finding};
use crate::clock::UnixTime;
use crate::protocol::remedy::Remedy;

/// What ends sooner is told of, in days.
const SOON: i64 = 14;
const DAY: i64 = 24 * 3600;

/// `FILETIME`: 100 ns since 1601, and 1970 in seconds since then ([MS-DTYP] 2.3.3).
const PER_SECOND: i64 = 10_000_000;
const UNIX_EPOCH: i64 = 11_644_473_600;

/// Who makes group policies has the domain, too, and is not protected by Active Directory itself.
const GROUP_POLICY_CREATOR_OWNERS: u32 = 520;

pub(super) async fn look(
    viewpoint: &Viewpoint<'_>,
    base_dns: &[String],
    now: UnixTime,
) -> Result<Vec<Finding>, RequestError> {
    let name = viewpoint.trustee.name.as_str();
    let mut findings = Vec::new();
    // It may be another domain's, where its entry is not looked for.
    if let Some(sid) = &viewpoint.trustee.sid {
        let own = Search {
            // An alternative form of a DN: [MS-ADTS] 3.1.1.3.1.2.4.
            base: format!("<SID={sid}>"),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: &["accountExpires", "msDS-UserPasswordExpiryTimeComputed"],
        };
        let (entries, _) = viewpoint.connection.search(&own).await?;
        if let Some(entry) = entries.first() {
            findings.push(password(name, entry, now));
            findings.push(account(name, entry, now));
        }
        findings.push(place(viewpoint, name, sid, base_dns).await?);
    }
    findings.push(groups(name, viewpoint.token.iter()));
    Ok(findings)
}

fn password(name: &str, entry: &SearchEntry, now: UnixTime) -> Finding {
    let check = Check::ServiceAccountPassword;
    match time(entry, "msDS-UserPasswordExpiryTimeComputed") {
        Some(End::Never) => Finding::ok(check, name, "it does not expire"),
        Some(End::At(0)) => {
            let detail = "it must be changed before the next logon: then the agent can't log on any more";
            Finding::failed(check, name, detail).mended_by(Remedy::RenewServiceAccount)
        }
        Some(End::At(end)) => ends(check, name, end - now.0),
        None => Finding::warning(check, name, "when it expires can't be read"),
    }
}

fn account(name: &str, entry: &SearchEntry, now: UnixTime) -> Finding {
    let check = Check::ServiceAccountExpiry;
    match time(entry, "accountExpires") {
        // 0 is "never" here.
        Some(End::Never | End::At(0)) => Finding::ok(check, name, "the account does not expire"),
        Some(End::At(end)) => ends(check, name, end - now.0),
        None => Finding::warning(check, name, "when the account expires can't be read"),
    }
}

/// In so many seconds.
fn ends(check: Check, name: &str, left: i64) -> Finding {
    let days = left.div_euclid(DAY);
    match (left.cmp(&0), days) {
        (Ordering::Less | Ordering::Equal, _) => {
            let detail =
                "this is over: the agent can't log on any more, and what it still has of connections ends soon";
            Finding::failed(check, name, detail).mended_by(Remedy::RenewServiceAccount)
        }
        (Ordering::Greater, ..SOON) => {
            let detail = format!("{}; after that the agent can't log on", spoken(days));
            Finding::warning(check, name, detail).mended_by(Remedy::RenewServiceAccount)
        }
        (Ordering::Greater, _) => Finding::ok(check, name, format!("{days} days left")),
    }
}

fn spoken(days: i64) -> String {
    match days {
        0 => "it ends within a day".to_owned(),
        1 => "it ends in 1 day".to_owned(),
        _ => format!("it ends in {days} days"),
    }
}

/// When something ends.
enum End {
    Never,
    /// In seconds since 1970; 0 is what the directory has as 0.
    At(i64),
}

fn time(entry: &SearchEntry, attribute: &str) -> Option<End> {
    match text(entry, attribute)?.parse().ok()? {
        i64::MAX => Some(End::Never),
        0 => Some(End::At(0)),
        time => Some(End::At(time / PER_SECOND - UNIX_EPOCH)),
    }
}

/// `token`: itself and all its groups.
fn groups<'a>(name: &str, token: impl Iterator<Item = &'a Sid>) -> Finding {
    let mut powerful: Vec<&str> = token.filter_map(powerful).collect();
    powerful.sort_unstable();
    if powerful.is_empty() {
        return Finding::ok(Check::ServiceAccountRights, name, "it is in none of the groups of administrators");
    }
    let detail = format!(
        "it is in {}: whoever takes over the agent's host has the domain with it. The rights that the agent needs are given \
         on its units alone",
        powerful.join(", ")
    );
    Finding::warning(Check::ServiceAccountRights, name, detail).mended_by(Remedy::FewerRights)
}

/// What may do nearly everything, or give it to itself.
fn powerful(sid: &Sid) -> Option<&'static str> {
    match sid.rid_of_a_domain() {
        Some(GROUP_POLICY_CREATOR_OWNERS) => Some("Group Policy Creator Owners"),
        _ => well_known(sid),
    }
}

/// The domain controller knows best what is below what.
async fn place(viewpoint: &Viewpoint<'_>, name: &str, sid: &Sid, base_dns: &[String]) -> Result<Finding, RequestError> {
    let check = Check::ServiceAccountUnit;
    for base_dn in base_dns {
        let below = Search {
            base: base_dn.clone(),
            scope: Scope::Subtree,
            filter: format!("(objectSid={})", sid.in_a_filter()),
            attributes: &["objectClass"],
        };
        if viewpoint.connection.search(&below).await?.0.is_empty() {
            continue;
        }
        let refused = "the agent refuses to touch the account that it is itself";
        return Ok(if base_dn.eq_ignore_ascii_case(viewpoint.domain) {
            Finding::ok(check, name, format!("it is in the domain that is served as a whole; {refused}"))
        } else {
            let detail = format!("it is below {base_dn}, which is served; {refused}");
            Finding::warning(check, name, detail).mended_by(Remedy::MoveServiceAccount)
        });
    }
    Ok(Finding::ok(check, name, "it is outside the units that are served"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::protocol::api::PreflightState::{Failed, Ok as Green, Warning};

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn entry(attribute: &str, value: i64) -> SearchEntry {
        let attrs = [(attribute.to_owned(), vec![value.to_string()])].into();
        SearchEntry { dn: "CN=svc".to_owned(), attrs, bin_attrs: HashMap::new() }
    }

    fn in_days(days: i64) -> i64 {
        (NOW.0 + days * DAY + 60 + UNIX_EPOCH) * PER_SECOND
    }

    #[test]
    fn what_ends_is_told_two_weeks_before_and_is_a_failure_when_it_is_over() {
        type Judge = fn(&str, &SearchEntry, UnixTime) -> Finding;
        let of: [(&str, Judge, _); 2] = [
            ("msDS-UserPasswordExpiryTimeComputed", password, Failed),
            // The account's own 0 is "never".
            ("accountExpires", account, Green),
        ];
        for (attribute, judge, zero) in of {
            let state = |value| judge("svc", &entry(attribute, value), NOW).state;
            assert_eq!((state(i64::MAX), state(0)), (Green, zero), "{attribute}");
            assert_eq!((state(in_days(14)), state(in_days(13)), state(in_days(0))), (Green, Warning, Warning));
            assert_eq!((state(in_days(-1)), state(1)), (Failed, Failed));
            assert!(judge("svc", &entry(attribute, in_days(3)), NOW).detail.contains("in 3 days"));
            assert!(judge("svc", &entry(attribute, in_days(1)), NOW).detail.contains("in 1 day;"));
            assert_eq!(judge("svc", &entry("other", 0), NOW).state, Warning);
        }
    }

    #[test]
    fn groups_of_administrators_are_named_in_whatever_domain() {
        let sid = |words: &[u32]| {
            let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            Sid::read(&[&[1, u8::try_from(words.len() / 4).unwrap(), 0, 0, 0, 0, 0, 5][..], &words].concat()).unwrap()
        };
        let found = |sids: &[Sid]| groups("svc", sids.iter());
        let harmless = [sid(&[21, 1, 2, 3, 513]), sid(&[32, 545]), sid(&[21, 1, 2, 3, 544]), sid(&[11])];
        assert_eq!(found(&harmless).state, Green);
        let mighty = found(&[&harmless[..], &[sid(&[21, 9, 9, 9, 519]), sid(&[32, 544])]].concat());
        assert!(mighty.state == Warning && mighty.detail.contains("Administrators, Enterprise Admins:"), "{mighty:?}");
    }
}
