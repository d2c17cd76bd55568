//! Who the agent is on a connection (RFC 4513 §2: its authorization identity), in the domain controller's own words. Its groups
//! don't change while the connection lasts.

use std::collections::HashSet;

use ldap3::Scope;

use super::connection::{Connection, RequestError, Search};
use super::controller::RootDse;
use super::entry::bytes;
use super::security_descriptor::Sid;
use super::trustee::Trustee;

/// So many SIDs are asked for in one filter.
const IN_ONE_FILTER: usize = 100;

/// The service account, as a domain controller has let it in.
pub(super) struct AuthorizationIdentity {
    /// Where: the domain's distinguished name.
    pub(super) domain: String,
    /// The account itself, with all its groups.
    pub(super) token: HashSet<Sid>,
    /// The account itself; none, if it is one of another domain.
    pub(super) own: Option<Sid>,
}

impl AuthorizationIdentity {
    /// Of a connection on which the service account is bound, by this name. A name may be written in many ways; so what is
    /// looked for is the account among the SIDs of the logon, and by its name only if there is none.
    pub(super) async fn of(connection: &Connection, root: &RootDse, name: &str) -> Result<Self, RequestError> {
        let domain = root.default_naming_context.clone().unwrap_or_default();
        let token = root.token_groups.clone();
        let candidates: Vec<&Sid> = token.iter().filter(|sid| sid.rid_of_a_domain().is_some()).collect();
        let mut own = None;
        for some in candidates.chunks(IN_ONE_FILTER) {
            let filter = some.iter().map(|sid| format!("(objectSid={})", sid.in_a_filter())).collect::<String>();
            let search = Search {
                base: domain.clone(),
                scope: Scope::Subtree,
                filter: format!("(&(objectClass=user)(|{filter}))"),
                attributes: &["objectSid"],
            };
            let (entries, _) = connection.search(&search).await?;
            let mut found = entries.iter().filter_map(|entry| Sid::read(bytes(entry, "objectSid").first()?));
            own = found.find(|sid| token.contains(sid));
            if own.is_some() {
                break;
            }
        }
        if own.is_none() {
            own = Trustee::find(connection, &domain, name).await?.sid;
        }
        Ok(Self { domain, token, own })
    }

    /// Whether this is the account that has logged on.
    pub(super) fn is(&self, account: &Sid) -> bool {
        self.token.contains(account) || self.own.as_ref() == Some(account)
    }
}
