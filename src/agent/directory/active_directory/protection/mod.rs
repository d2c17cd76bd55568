//! Accounts that are left alone, whatever rights the service account has: by what they are and may, read from the directory at
//! each look, and not by a mark that somebody sets later.
//!
//! | module | what |
//! |---|---|
//! | `well_known` | the groups and accounts of [MS-ADTS] 3.1.1.6.1 |
//! | `named` | those that the administrator names (`protected_groups`) |
//! | `control_paths` | who could take over the service account, or the units that it works in |
//!
//! What can't be read is refused.

mod control_paths;
mod named;
mod well_known;

use std::collections::HashSet;

use ldap3::SearchEntry;

pub(super) use self::control_paths::ControlPaths;
pub(super) use self::named::{Group, Unresolved};
pub(super) use self::well_known::{builtin_rids, domain_rids, name as well_known, of_every_logon};
use super::authorization::AuthorizationIdentity;
use super::config::Config;
use super::connection::Connection;
use super::entry::{bytes, text};
use super::security_descriptor::Sid;
use crate::agent::directory::DirectoryError;
use crate::protocol::outcome::Code;
use crate::protocol::untrusted::Untrusted;

/// `ADS_UF_ACCOUNTDISABLE` in `userAccountControl`.
const ACCOUNT_DISABLED: u32 = 0x2;

/// What is read of an account to judge it, beside what everybody reads of it. Only of one account at a time: the groups are
/// constructed ([MS-ADTS] 3.1.1.4.5.19).
pub(super) const ATTRIBUTES: [&str; 5] = ["userAccountControl", "adminCount", "objectSid", "sIDHistory", "tokenGroups"];

/// What is protected in one domain, beyond what always is.
pub(super) struct Protection {
    groups: Vec<String>,
}

/// Where accounts are judged: the connection, and who the agent is on it.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) controller: &'a str,
    pub(super) connection: &'a Connection,
    pub(super) identity: &'a AuthorizationIdentity,
    /// Where accounts are looked for.
    pub(super) base_dns: &'a [String],
}

/// Why an account is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Barred {
    pub(super) code: Code,
    pub(super) why: String,
}

impl Barred {
    fn protected(why: impl Into<String>) -> Self {
        Self { code: Code::ProtectedAccount, why: why.into() }
    }
}

impl Protection {
    /// As it is configured.
    pub(super) fn new(config: &Config) -> Self {
        Self { groups: config.protected_groups.clone().unwrap_or_default() }
    }

    /// What speaks against writing the account, if anything does.
    pub(super) async fn judge(
        &self,
        ground: &Ground<'_>,
        account: &SearchEntry,
    ) -> Result<Option<Barred>, DirectoryError> {
        let unreadable = |what: &str| {
            let detail = format!("{}: the service account may not read the account's {what}", ground.controller);
            DirectoryError::Refused { code: Code::InsufficientRights, detail }
        };
        // Written as a signed number; the flags are its bits.
        let flags = text(account, "userAccountControl").and_then(|flags| flags.parse::<i32>().ok());
        let flags = flags.ok_or_else(|| unreadable("userAccountControl"))?.cast_unsigned();
        if flags & ACCOUNT_DISABLED != 0 {
            return Ok(Some(Barred { code: Code::AccountDisabled, why: "the account is disabled".to_owned() }));
        }
        let groups =
            "tokenGroups, so its groups are not known; or the domain controller found no global catalog to ask";
        let token = Token::of(account).ok_or_else(|| unreadable(groups))?;
        if let Some(barred) = token.barred_at_once(account, ground.identity) {
            return Ok(Some(barred));
        }
        let (named, paths) = tokio::try_join!(self.resolved(ground), ControlPaths::read(ground))?;
        for group in named {
            match group {
                Ok(group) if token.sids.contains(&group.sid) => {
                    let group = Untrusted::from(group.written);
                    let why =
                        format!("the account is in {}, which protected_groups in agent.toml names", group.quoted());
                    return Ok(Some(Barred::protected(why)));
                }
                Ok(_) => {}
                Err(Unresolved(why)) => {
                    let why = format!("{why}; as long as that is so, every account is taken for a protected one");
                    return Ok(Some(Barred::protected(why)));
                }
            }
        }
        Ok(paths.of(&token.with_the_usual()).map(Barred::protected))
    }

    /// The groups that the administrator names, as the domain has them.
    pub(super) async fn resolved(&self, ground: &Ground<'_>) -> Result<Vec<Result<Group, Unresolved>>, DirectoryError> {
        futures_util::future::try_join_all(self.groups.iter().map(|written| named::resolve(ground, written))).await
    }
}

/// Who an account is, with all its groups: those within groups and its primary one, too.
struct Token {
    own: Sid,
    sids: HashSet<Sid>,
}

impl Token {
    /// None, if it can't be read. Every account has a group: its primary one.
    fn of(account: &SearchEntry) -> Option<Self> {
        let sids = |attribute| bytes(account, attribute).iter().map(|sid| Sid::read(sid)).collect::<Option<Vec<_>>>();
        let own = sids("objectSid")?.into_iter().next()?;
        let groups = sids("tokenGroups").filter(|groups| !groups.is_empty())?;
        // Who was somebody else before has his rights.
        let before = sids("sIDHistory")?;
        Some(Self { sids: groups.into_iter().chain(before).chain([own.clone()]).collect(), own })
    }

    /// What is seen without another question.
    fn barred_at_once(&self, account: &SearchEntry, identity: &AuthorizationIdentity) -> Option<Barred> {
        if identity.is(&self.own) {
            return Some(Barred::protected(
                "this is the agent's own service account, which is not touched from outside",
            ));
        }
        if let Some(name) = self.sids.iter().find_map(well_known::name) {
            return Some(Barred::protected(format!(
                "the account is {name}, or a member of it (directly, through another group, or as its primary group), and \
                 is not touched from outside"
            )));
        }
        text(account, "adminCount").is_some_and(|count| count != "0").then(|| {
            Barred::protected(
                "the account is or was in a protected group such as Domain Admins (adminCount is 1), and is not touched from \
                 outside; if it is in none any more, an administrator clears adminCount and turns the inheritance of its \
                 rights on again",
            )
        })
    }

    /// With what every identity has.
    fn with_the_usual(mut self) -> HashSet<Sid> {
        self.sids.extend(well_known::of_every_logon());
        self.sids
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn sid(text: &str) -> Vec<u8> {
        Sid::parse(text).unwrap().to_bytes()
    }

    fn account(groups: &[&str], history: &[&str], admin_count: Option<&str>) -> SearchEntry {
        let all = |texts: &[&str]| texts.iter().map(|text| sid(text)).collect::<Vec<_>>();
        let bin_attrs = [
            ("objectSid".to_owned(), vec![sid("S-1-5-21-1-2-3-1104")]),
            ("tokenGroups".to_owned(), all(groups)),
            ("sIDHistory".to_owned(), all(history)),
        ];
        let attrs = admin_count.map(|count| ("adminCount".to_owned(), vec![count.to_owned()]));
        SearchEntry { dn: "CN=a".to_owned(), attrs: attrs.into_iter().collect(), bin_attrs: bin_attrs.into() }
    }

    fn barred(entry: &SearchEntry, identity: &[&str]) -> Option<String> {
        let token = identity.iter().map(|text| Sid::parse(text).unwrap()).collect();
        let identity = AuthorizationIdentity { domain: "DC=c".to_owned(), token, own: None };
        Token::of(entry).unwrap().barred_at_once(entry, &identity).map(|barred| barred.why)
    }

    const USERS: &str = "S-1-5-21-1-2-3-513";

    #[test]
    fn an_account_is_protected_by_its_groups_its_history_its_mark_and_by_being_the_agents_own() {
        assert_eq!(barred(&account(&[USERS, "S-1-5-32-545"], &[], None), &[USERS]), None);
        assert_eq!(barred(&account(&[USERS], &[], Some("0")), &[]), None);
        assert!(barred(&account(&[USERS], &[], Some("1")), &[]).unwrap().contains("adminCount"));
        for group in ["S-1-5-21-1-2-3-512", "S-1-5-21-7-8-9-519", "S-1-5-32-551"] {
            assert!(barred(&account(&[USERS, group], &[], None), &[]).is_some(), "{group}");
            assert!(barred(&account(&[USERS], &[group], None), &[]).is_some(), "{group}, before");
        }
        assert!(barred(&account(&[USERS], &[], None), &["S-1-5-21-1-2-3-1104"]).unwrap().contains("service account"));
    }

    #[test]
    fn an_account_whose_groups_are_not_shown_is_no_account_without_groups() {
        assert!(Token::of(&account(&[], &[], None)).is_none());
        let mut garbled = account(&[USERS], &[], None);
        garbled.bin_attrs.insert("tokenGroups".to_owned(), vec![sid(USERS), vec![1, 2]]);
        assert!(Token::of(&garbled).is_none());
        let nobody = SearchEntry { dn: String::new(), attrs: HashMap::new(), bin_attrs: HashMap::new() };
        assert!(Token::of(&nobody).is_none());
    }
}
