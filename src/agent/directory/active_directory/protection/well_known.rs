//! The groups and accounts that Active Directory itself protects ([MS-ADTS] 3.1.1.6.1.2), in whichever version it does. Their
//! numbers are the same in every domain; groups of the forest's root have theirs there, so the domain is not looked at.

use super::super::security_descriptor::Sid;

/// In `BUILTIN`.
const BUILTIN: &[(u32, &str)] = &[
    (544, "Administrators"),
    (548, "Account Operators"),
    (549, "Server Operators"),
    (550, "Print Operators"),
    (551, "Backup Operators"),
    (552, "Replicator"),
];

/// In a domain.
const OF_A_DOMAIN: &[(u32, &str)] = &[
    (498, "Enterprise Read-only Domain Controllers"),
    (500, "Administrator"),
    (502, "krbtgt"),
    (512, "Domain Admins"),
    (516, "Domain Controllers"),
    (517, "Cert Publishers"),
    (518, "Schema Admins"),
    (519, "Enterprise Admins"),
    (521, "Read-only Domain Controllers"),
    (526, "Key Admins"),
    (527, "Enterprise Key Admins"),
];

/// The numbers of all that stand in `BUILTIN`.
pub(in super::super) fn builtin_rids() -> impl Iterator<Item = u32> {
    BUILTIN.iter().map(|(rid, _)| *rid)
}

/// The numbers of all that stand in a domain.
pub(in super::super) fn domain_rids() -> impl Iterator<Item = u32> {
    OF_A_DOMAIN.iter().map(|(rid, _)| *rid)
}

/// What it is, if it is one of them.
pub(in super::super) fn name(sid: &Sid) -> Option<&'static str> {
    let named =
        |table: &[(u32, &'static str)], rid| table.iter().find(|(known, _)| *known == rid).map(|(_, name)| *name);
    let of_a_domain = sid.rid_of_a_domain().and_then(|rid| named(OF_A_DOMAIN, rid));
    of_a_domain.or_else(|| sid.rid_of_builtin().and_then(|rid| named(BUILTIN, rid)))
}

/// What every account belongs to when it has logged on, and no attribute of it tells ([MS-DTYP] 2.4.2.4): Everyone, Network,
/// Interactive, Authenticated Users, This Organization.
pub(in super::super) fn of_every_logon() -> impl Iterator<Item = Sid> {
    [2, 4, 11, 15].map(|rid| Sid::nt(&[rid])).into_iter().chain([Sid::everyone()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_known_by_its_number_in_every_domain_and_not_by_the_same_number_elsewhere() {
        let name = |text: &str| name(&Sid::parse(text).unwrap());
        assert_eq!(name("S-1-5-21-1-2-3-512"), Some("Domain Admins"));
        assert_eq!(name("S-1-5-21-9-8-7-519"), Some("Enterprise Admins"));
        assert_eq!(name("S-1-5-32-544"), Some("Administrators"));
        assert_eq!((name("S-1-5-21-1-2-3-500"), name("S-1-5-21-1-2-3-502")), (Some("Administrator"), Some("krbtgt")));
        for other in ["S-1-5-21-1-2-3-513", "S-1-5-21-1-2-3-544", "S-1-5-32-512", "S-1-5-32-545", "S-1-5-11", "S-1-1-0"]
        {
            assert_eq!(name(other), None, "{other}");
        }
        assert!(builtin_rids().any(|rid| rid == 552) && domain_rids().any(|rid| rid == 527));
    }
}
