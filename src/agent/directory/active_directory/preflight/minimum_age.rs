//! How soon the users that were looked at may change their passwords again: by the domain's policy, or by the password settings
//! object that is theirs in its place (`msDS-ResultantPSO`, [MS-ADTS] 3.1.1.4.5.36).

use std::collections::BTreeMap;

use ldap3::Scope;

use super::super::connection::{Connection, RequestError, Search};
use super::domain::{interval, spoken};
use crate::agent::directory::{Check, Finding};
use crate::protocol::remedy::Remedy;
use crate::protocol::untrusted::Untrusted;

/// As many objects are read: each costs a question.
const OBJECTS: usize = 20;

/// Whose rules are those of the users that were looked at.
#[derive(Default)]
pub(super) struct PasswordSettings {
    /// How many users each object has, by its DN.
    objects: BTreeMap<String, usize>,
    /// How many users the domain's policy has.
    by_domain: usize,
}

/// What the rules of one object, or of the domain, are.
struct Rule {
    /// Whose: for people.
    whose: String,
    users: usize,
    /// In seconds; none if it may not be read.
    seconds: Option<i64>,
}

impl PasswordSettings {
    /// Of some users: the object of each, if it has one that is shown.
    pub(super) fn note<'a>(&mut self, of_users: impl Iterator<Item = Option<&'a str>>) {
        for object in of_users {
            match object {
                Some(dn) => *self.objects.entry(dn.to_owned()).or_default() += 1,
                None => self.by_domain += 1,
            }
        }
    }

    /// How soon. `by_domain` is what the domain's policy says, in seconds.
    pub(super) async fn minimum_age(
        &self,
        connection: &Connection,
        domain: &str,
        by_domain: Option<i64>,
    ) -> Result<Finding, RequestError> {
        let mut rules =
            vec![Rule { whose: "the domain's policy".to_owned(), users: self.by_domain, seconds: by_domain }];
        for (dn, users) in self.objects.iter().take(OBJECTS) {
            let (entries, _) = connection.search(&of(dn)).await?;
            let seconds = entries.first().and_then(|object| interval(object, "msDS-MinimumPasswordAge"));
            let name =
                Untrusted::from(dn.split_once(',').map_or(dn.as_str(), |(name, _)| name).trim_start_matches("CN="));
            rules.push(Rule { whose: format!("the password settings {}", name.quoted()), users: *users, seconds });
        }
        Ok(finding(domain, &rules))
    }
}

fn of(dn: &str) -> Search {
    Search {
        base: dn.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: &["msDS-MinimumPasswordAge"],
    }
}

/// The rules that hold for somebody; those of the domain, if nobody was looked at.
fn finding(domain: &str, rules: &[Rule]) -> Finding {
    let all: usize = rules.iter().map(|rule| rule.users).sum();
    let hold: Vec<_> = rules.iter().enumerate().filter(|(at, rule)| rule.users > 0 || (all == 0 && *at == 0)).collect();
    let slow: Vec<_> = hold.iter().filter(|(_, rule)| rule.seconds != Some(0)).collect();
    if slow.is_empty() {
        return Finding::ok(Check::MinimumPasswordAge, domain, "a password may be changed again at once");
    }
    let each = slow.iter().map(|(_, rule)| {
        let how_long = match rule.seconds {
            Some(seconds) => format!("it must be {} old", spoken(seconds)),
            None => "how old it must be can't be read".to_owned(),
        };
        match (hold.len(), all) {
            (1, _) => format!("{how_long} ({})", rule.whose),
            _ => format!("{how_long} for {} of the {all} users that were looked at ({})", rule.users, rule.whose),
        }
    });
    let detail = format!(
        "before a user may change a password again, {}: within that time after a reset or a change, the next change is refused \
         (33008); resets are not",
        each.collect::<Vec<_>>().join("; ")
    );
    let finding = Finding::warning(Check::MinimumPasswordAge, domain, detail);
    // The remedy is about the domain's policy alone.
    match slow.as_slice() {
        [(0, Rule { seconds: Some(_), .. })] => finding.mended_by(Remedy::MinimumPasswordAge),
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::api::PreflightState::{Ok as Green, Warning};

    const DAY: i64 = 86_400;

    fn found(rules: &[(usize, Option<i64>)]) -> Finding {
        let rule = |(at, (users, seconds)): (usize, &(usize, Option<i64>))| Rule {
            whose: if at == 0 { "the domain's policy".to_owned() } else { format!("the password settings \"{at}\"") },
            users: *users,
            seconds: *seconds,
        };
        finding("DC=c", &rules.iter().enumerate().map(rule).collect::<Vec<_>>())
    }

    #[test]
    fn what_holds_for_nobody_that_was_looked_at_is_not_told() {
        assert_eq!(found(&[(60, Some(0)), (0, Some(DAY))]).state, Green);
        assert_eq!(found(&[(0, Some(DAY)), (60, Some(0))]).state, Green);
        // Without a user, the domain's.
        assert_eq!(found(&[(0, Some(0))]).state, Green);
        assert_eq!(found(&[(0, Some(DAY))]).state, Warning);
    }

    #[test]
    fn a_minimum_age_is_a_warning_that_says_how_long_and_for_whom() {
        let domains = found(&[(60, Some(DAY))]);
        assert!(
            domains.state == Warning && domains.detail.contains("24 hours old (the domain's policy)"),
            "{domains:?}"
        );
        assert!(domains.remedy.is_some());
        let one = found(&[(57, Some(0)), (3, Some(DAY))]);
        assert!(one.detail.contains("24 hours old for 3 of the 60 users"), "{one:?}");
        assert!(one.detail.contains("\"1\"") && one.remedy.is_none(), "{one:?}");
    }

    #[test]
    fn what_can_not_be_read_is_said() {
        for rules in [&[(60, None)][..], &[(50, Some(0)), (10, None)]] {
            let found = found(rules);
            assert!(found.state == Warning && found.detail.contains("can't be read"), "{found:?}");
            assert!(found.remedy.is_none());
        }
    }
}
