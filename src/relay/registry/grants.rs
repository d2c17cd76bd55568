//! How an operator changes a portal: what is added never takes anything away, and what takes away says what.

use super::bounds::MAX_PORTAL_KEYS;
use super::records::PortalRecord;
use crate::protocol::ids::TenantId;
use crate::protocol::jose::PublicKey;
use crate::protocol::rotation::PortalRotation;

/// What came of adding a portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortalAdded {
    /// There was none by this name.
    New(PortalRecord),
    /// It was there. It has now what it had, and what was new.
    Known {
        /// As it was.
        before: PortalRecord,
        /// As it is.
        now: PortalRecord,
    },
    /// One with other keys is there: somebody else's, perhaps. It was left as it is.
    OtherKeys(PortalRecord),
    /// It would have more keys than a portal may have. It was left as it is.
    TooManyKeys,
}

/// A tenant that a portal is to serve, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// From now on.
    Give(TenantId),
    /// No longer.
    Withdraw(TenantId),
}

impl PortalRecord {
    /// Adds this portal to what is known of it. What is to be stored is in [`PortalAdded::to_store`].
    #[must_use]
    pub fn add_to(&self, present: Option<Self>) -> PortalAdded {
        let Some(before) = present else { return PortalAdded::New(self.clone()) };
        // A key that it had before its rotations is its own, too, and does not come back.
        let chain: Vec<PublicKey> = before.later.rotations.iter().flat_map(|jws| keys_of(jws)).collect();
        if !self.keys.iter().any(|key| before.keys.contains(key) || chain.contains(key)) {
            return PortalAdded::OtherKeys(before);
        }
        let mut now = before.clone();
        for key in &self.keys {
            if !now.keys.contains(key) && !chain.contains(key) {
                now.keys.push(key.clone());
            }
        }
        if now.keys.len() > MAX_PORTAL_KEYS.max(before.keys.len()) {
            return PortalAdded::TooManyKeys;
        }
        for tenant in &self.tenants {
            if !now.tenants.contains(tenant) {
                now.tenants.push(tenant.clone());
            }
        }
        PortalAdded::Known { before, now }
    }

    /// Changes what it was granted; whether that was another thing before.
    pub fn settle(&mut self, grant: &Grant) -> bool {
        let before = self.tenants.len();
        match grant {
            Grant::Give(tenant) if self.tenants.contains(tenant) => {}
            Grant::Give(tenant) => self.tenants.push(tenant.clone()),
            Grant::Withdraw(tenant) => self.tenants.retain(|granted| granted != tenant),
        }
        self.tenants.len() != before
    }
}

fn keys_of(rotation: &str) -> Vec<PublicKey> {
    let Ok(rotation) = PortalRotation::read(rotation) else { return Vec::new() };
    vec![rotation.previous.signing, rotation.keys.signing]
}

impl PortalAdded {
    /// The record to be stored, if it is another one than before.
    #[must_use]
    pub fn to_store(&self) -> Option<&PortalRecord> {
        match self {
            Self::New(record) => Some(record),
            Self::Known { before, now } if before != now => Some(now),
            Self::Known { .. } | Self::OtherKeys(_) | Self::TooManyKeys => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use crate::protocol::jose::SigningKey;

    fn key() -> PublicKey {
        SigningKey::generate(&System).unwrap().public().clone()
    }

    fn portal(keys: &[&PublicKey], tenants: &[&str]) -> PortalRecord {
        PortalRecord {
            portal: "portal-1".parse().unwrap(),
            keys: keys.iter().map(|key| (*key).clone()).collect(),
            tenants: tenants.iter().map(|tenant| tenant.parse().unwrap()).collect(),
            later: Default::default(),
        }
    }

    #[test]
    fn what_is_added_takes_nothing_away_and_needs_a_key_that_is_known() {
        let (first, second, other) = (key(), key(), key());
        let present = portal(&[&first], &["contoso", "fabrikam"]);
        let added = |keys: &[&PublicKey], tenants: &[&str]| portal(keys, tenants).add_to(Some(present.clone()));
        let known = |now| PortalAdded::Known { before: present.clone(), now };
        assert_eq!(added(&[&first], &["tailspin"]), known(portal(&[&first], &["contoso", "fabrikam", "tailspin"])));
        let same = added(&[&first], &["fabrikam"]);
        assert_eq!((same.to_store(), &same), (None, &known(present.clone())));
        assert_eq!(
            added(&[&second, &first], &["contoso"]),
            known(portal(&[&first, &second], &["contoso", "fabrikam"])),
            "a further key, by one that is known"
        );
        assert_eq!(added(&[&other], &["contoso"]), PortalAdded::OtherKeys(present.clone()));
        let many: Vec<PublicKey> = (0..MAX_PORTAL_KEYS).map(|_| key()).collect();
        let many: Vec<&PublicKey> = many.iter().chain([&first]).collect();
        assert_eq!(added(&many, &[]), PortalAdded::TooManyKeys);
    }

    #[test]
    fn a_grant_changes_one_tenant_and_says_whether_it_did() {
        let mut record = portal(&[&key()], &["contoso"]);
        let tenant = |name: &str| name.parse::<TenantId>().unwrap();
        assert!(!record.settle(&Grant::Give(tenant("contoso"))));
        assert!(record.settle(&Grant::Give(tenant("fabrikam"))));
        assert!(record.settle(&Grant::Withdraw(tenant("contoso"))));
        assert!(!record.settle(&Grant::Withdraw(tenant("contoso"))));
        assert_eq!(record.tenants, [tenant("fabrikam")]);
    }
}
