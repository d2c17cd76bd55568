//! Whether what answers at a port can write at all. A read-only domain controller can't: Windows says it to everybody, in its
//! root DSE; Samba only in the configuration, to whoever has logged on. The global catalog can't either: it shows some
//! attributes of every domain's accounts, at ports of its own or wherever somebody forwards them to.

use ldap3::{Scope, SearchEntry};

use super::connection::{Connection, RequestError, Search};

/// `LDAP_CAP_ACTIVE_DIRECTORY_PARTIAL_SECRETS_OID`: a read-only domain controller ([MS-ADTS] 3.1.1.3.4.3.5).
const PARTIAL_SECRETS: &str = "1.2.840.113556.1.4.1920";

/// What the root DSE says.
pub(super) struct Kind {
    partial_secrets: bool,
    /// The controller's own object, `CN=NTDS Settings,…`.
    settings: Option<String>,
}

/// What can't write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOnly {
    /// A read-only domain controller.
    Controller,
    /// The global catalog.
    GlobalCatalog,
}

impl ReadOnly {
    /// For people.
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Controller => "this is a read-only domain controller, which can't set passwords; name a writable one",
            Self::GlobalCatalog => {
                "this is the global catalog, which can be read and not written; name the domain controller's LDAP port, 636 \
                 (ldaps) or 389 (ldap with start_tls)"
            }
        }
    }
}

/// Asks. Nobody need be bound.
pub(super) async fn look(connection: &Connection) -> Result<Kind, RequestError> {
    let root = ask(connection, String::new(), &["supportedCapabilities", "dsServiceName"]).await?;
    Ok(Kind::of(root.as_ref()))
}

impl Kind {
    fn of(root: Option<&SearchEntry>) -> Self {
        let values = |name| root.and_then(|root| root.attrs.get(name)).map(Vec::as_slice).unwrap_or_default();
        let partial_secrets = values("supportedCapabilities").iter().any(|oid| oid == PARTIAL_SECRETS);
        Self { partial_secrets, settings: values("dsServiceName").first().cloned() }
    }

    /// Whether it says so itself.
    pub(super) fn read_only(&self) -> Option<ReadOnly> {
        self.partial_secrets.then_some(ReadOnly::Controller)
    }

    /// Whether its configuration says so (`msDS-isRODC`, [MS-ADTS] 3.1.1.4.5.30), or what it shows. What can't be read is no.
    pub(super) async fn look_again(&self, connection: &Connection) -> Result<Option<ReadOnly>, RequestError> {
        if is_global_catalog(connection).await? {
            return Ok(Some(ReadOnly::GlobalCatalog));
        }
        let Some(settings) = &self.settings else { return Ok(None) };
        match ask(connection, settings.clone(), &["msDS-isRODC"]).await {
            Ok(entry) => Ok(entry.is_some_and(|entry| is_rodc(&entry)).then_some(ReadOnly::Controller)),
            // The next question meets the same.
            Err(RequestError::CanNot { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Below the root of all there is something only in the global catalog: at the port of LDAP a search from there fails
/// (Microsoft, "How Active Directory Searches Work"). What the root DSE says is the same at both.
async fn is_global_catalog(connection: &Connection) -> Result<bool, RequestError> {
    let everywhere = Search {
        base: String::new(),
        scope: Scope::Subtree,
        filter: "(objectClass=domainDNS)".to_owned(),
        attributes: &["objectClass"],
    };
    match connection.search(&everywhere).await {
        Ok((found, _)) => Ok(found.iter().any(|entry| !entry.dn.is_empty())),
        // Whatever it calls that: it finds nothing there.
        Err(RequestError::CanNot { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_rodc(settings: &SearchEntry) -> bool {
    settings.attrs.get("msDS-isRODC").is_some_and(|values| values.iter().any(|value| value == "TRUE"))
}

async fn ask(
    connection: &Connection,
    base: String,
    attributes: &'static [&'static str],
) -> Result<Option<SearchEntry>, RequestError> {
    let search = Search { base, scope: Scope::Base, filter: "(objectClass=*)".to_owned(), attributes };
    Ok(connection.search(&search).await?.0.into_iter().next())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn entry(attribute: &str, values: &[&str]) -> SearchEntry {
        let attrs = [(attribute.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())];
        SearchEntry { dn: String::new(), attrs: attrs.into(), bin_attrs: HashMap::new() }
    }

    #[test]
    fn only_the_capability_and_the_attribute_of_read_only_controllers_tell_them() {
        let capabilities = |oids: &[&str]| Kind::of(Some(&entry("supportedCapabilities", oids))).read_only().is_some();
        assert!(capabilities(&["1.2.840.113556.1.4.800", PARTIAL_SECRETS]));
        assert!(!capabilities(&["1.2.840.113556.1.4.800", "1.2.840.113556.1.4.1935"]));
        assert!(Kind::of(None).read_only().is_none());
        assert!(is_rodc(&entry("msDS-isRODC", &["TRUE"])));
        assert!(!is_rodc(&entry("msDS-isRODC", &["FALSE"])) && !is_rodc(&entry("other", &["TRUE"])));
    }
}
