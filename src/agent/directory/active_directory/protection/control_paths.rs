//! Who could take over what the agent stands on: its service account, and the units in which it has rights. Whoever may change
//! the permissions of those, or of what stands above them, can give himself what the agent has.

use std::collections::HashSet;

use futures_util::future::try_join_all;
use ldap3::Scope;
use uuid::{Uuid, uuid};

use super::super::answer::NO_SUCH_OBJECT;
use super::super::connection::Search;
use super::super::distinguished_name::upwards;
use super::super::entry::bytes;
use super::super::right::{Right, USER};
use super::super::security_descriptor::{SecurityDescriptor, Sid, Wanted};
use super::Ground;
use crate::agent::directory::DirectoryError;
use crate::protocol::outcome::Code;
use crate::protocol::untrusted::Untrusted;

/// `WRITE_DAC` and `WRITE_OWNER` ([MS-ADTS] 5.1.3.2).
const STANDARD: [u32; 2] = [0x0004_0000, 0x0008_0000];
const WRITE_PROPERTY: u32 = 0x20;

/// The classes of what is looked at: an entry that names one is about the whole object.
const CLASSES: &[Uuid] = &[
    USER,
    // inetOrgPerson, organizationalUnit, container, domainDNS
    uuid!("4828cc14-1437-45bc-9b07-ad6f015e5f28"),
    uuid!("bf967aa5-0de6-11d0-a285-00aa003049e2"),
    uuid!("bf967a8b-0de6-11d0-a285-00aa003049e2"),
    uuid!("19195a5b-6da0-11d0-afd3-00c04fd930c9"),
];

/// Attributes with which an account is taken over, and the property sets that they are in: another way to log on as it, or a
/// ticket to guess its password by.
const TAKES_OVER: &[Uuid] = &[
    USER,
    // unicodePwd, userAccountControl, servicePrincipalName, altSecurityIdentities, msDS-KeyCredentialLink,
    // msDS-AllowedToActOnBehalfOfOtherIdentity
    uuid!("bf9679e1-0de6-11d0-a285-00aa003049e2"),
    uuid!("bf967a68-0de6-11d0-a285-00aa003049e2"),
    uuid!("f3a64788-5306-11d1-a9c5-0000f80367c1"),
    uuid!("00fbf30c-91fe-11d1-aebc-0000f80367c1"),
    uuid!("5b47d60f-6090-40b2-9f37-2a4de88f3063"),
    uuid!("3f78c3e5-f79a-46bd-a0b8-9d18116ddc79"),
    // User-Account-Restrictions, Public-Information
    uuid!("4c164200-20c0-11d0-a768-00aa006e0529"),
    uuid!("e48d0154-bcf8-11d1-8702-00c04fb96050"),
];

/// What the agent stands on, with who may do what to it.
pub(in super::super) struct ControlPaths(Vec<Controlled>);

struct Controlled {
    dn: String,
    is_service_account: bool,
    descriptor: SecurityDescriptor,
}

impl ControlPaths {
    /// Reads them, side by side.
    pub(in super::super) async fn read(ground: &Ground<'_>) -> Result<Self, DirectoryError> {
        let units = ground.base_dns.iter().map(|unit| controlled(ground, unit.clone(), Kind::Unit));
        // An alternative form of a DN: [MS-ADTS] 3.1.1.3.1.2.4.
        let own = ground.identity.own.iter();
        let own = own.map(|sid| controlled(ground, format!("<SID={sid}>"), Kind::ServiceAccount));
        let (units, own) = tokio::try_join!(try_join_all(units), try_join_all(own))?;
        let mut all: Vec<Controlled> = units.into_iter().chain(own).flatten().collect();
        let mut known: HashSet<String> = all.iter().map(|one| one.dn.to_lowercase()).collect();
        let above: Vec<String> = all
            .iter()
            .flat_map(|one| upwards(&one.dn, &ground.identity.domain))
            .filter(|dn| known.insert(dn.to_lowercase()))
            .map(str::to_owned)
            .collect();
        let above = above.into_iter().map(|dn| controlled(ground, dn, Kind::Above));
        all.extend(try_join_all(above).await?.into_iter().flatten());
        Ok(Self(all))
    }

    /// What somebody with all these SIDs could do, if there is anything.
    pub(in super::super) fn of(&self, token: &HashSet<Sid>) -> Option<String> {
        let one = self.0.iter().find(|one| one.is_controlled_by(token))?;
        let dn = Untrusted::from(one.dn.as_str());
        Some(if one.is_service_account {
            format!(
                "the account may take over the agent's service account ({}), so it is protected like it",
                dn.quoted()
            )
        } else {
            format!(
                "the account may change the permissions on {}, at or above the agent's units, so it is protected like the \
                 agent's service account",
                dn.quoted()
            )
        })
    }
}

impl Controlled {
    fn is_controlled_by(&self, token: &HashSet<Sid>) -> bool {
        let may = |wanted| self.descriptor.may(token, wanted);
        self.descriptor.is_owned_by(token)
            || STANDARD.into_iter().any(|mask| may(Wanted { mask, object_types: CLASSES }))
            || self.is_service_account
                && (may(Right::ResetPassword.wanted())
                    || may(Wanted { mask: WRITE_PROPERTY, object_types: TAKES_OVER }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ServiceAccount,
    Unit,
    Above,
}

/// One object. None, if it is a unit that is not there: nobody controls that.
async fn controlled(ground: &Ground<'_>, base: String, kind: Kind) -> Result<Option<Controlled>, DirectoryError> {
    let search = Search {
        base: base.clone(),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: &["nTSecurityDescriptor"],
    };
    let named = Untrusted::from(base);
    let unavailable = |why: String| DirectoryError::Unavailable(format!("{}: {why}", ground.controller));
    let (entries, result) =
        ground.connection.sample(1, &search).await.map_err(|error| unavailable(error.to_string()))?;
    if result.rc == NO_SUCH_OBJECT && kind == Kind::Unit {
        return Ok(None);
    }
    let shown = entries.into_iter().next().and_then(|entry| {
        let descriptor = bytes(&entry, "nTSecurityDescriptor").into_iter().next()?;
        Some((entry.dn, descriptor))
    });
    let Some((dn, descriptor)) = shown else {
        let detail = format!(
            "{}: the service account may not read the permissions of {} (Read Permissions is missing), so it is not known \
             who could change them, and nobody is reset",
            ground.controller,
            named.quoted()
        );
        return Err(DirectoryError::Refused { code: Code::InsufficientRights, detail });
    };
    let malformed = |error| {
        let detail = format!("{}: {}: {error}", ground.controller, named.quoted());
        DirectoryError::Refused { code: Code::Internal, detail }
    };
    let descriptor = SecurityDescriptor::read(&descriptor).map_err(malformed)?;
    Ok(Some(Controlled { dn, is_service_account: kind == Kind::ServiceAccount, descriptor }))
}
