//! How near an account is to being locked: for whoever is about to try its password once more.

use ldap3::Scope;

use super::ActiveDirectory;
use super::connection::{Connection, RequestError, Search};
use super::entry::text;
use super::trustee;

/// As the domain's policy has it; a policy of the account's own (PSO) may be stricter, and is not seen by everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// After so many wrong passwords it is locked. Never 0: that would be never.
    pub threshold: u32,
    /// So many there were, at the controller that was asked.
    pub wrong: u32,
}

impl ActiveDirectory {
    /// What can be seen of it; nothing if it can't be, or accounts are never locked.
    pub async fn lockout(&self, account: &str) -> Option<Lockout> {
        self.seen(async |connection, domain| look(connection, domain, account).await).await.flatten()
    }
}

async fn look(connection: &Connection, domain: &str, account: &str) -> Result<Option<Lockout>, RequestError> {
    let policy = Search {
        base: domain.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: &["lockoutThreshold"],
    };
    let (entries, _) = connection.search(&policy).await?;
    let number = |text: Option<&str>| text.and_then(|number| number.parse::<u32>().ok());
    let threshold = number(entries.first().and_then(|entry| text(entry, "lockoutThreshold")));
    let (entries, _) = connection.search(&trustee::named(domain, account, &["badPwdCount"])).await?;
    let wrong = match entries.as_slice() {
        [one] => number(text(one, "badPwdCount")),
        _ => None,
    };
    Ok(threshold.filter(|threshold| *threshold > 0).zip(wrong).map(|(threshold, wrong)| Lockout { threshold, wrong }))
}
