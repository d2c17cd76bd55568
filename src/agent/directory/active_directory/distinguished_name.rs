//! Distinguished names (RFC 4514), as far as somebody has to look into one.

/// The object above (RFC 4514: a comma in a name is escaped).
pub(super) fn parent(dn: &str) -> Option<&str> {
    let mut escaped = false;
    let comma = dn.char_indices().find(|(_, c)| {
        let separates = *c == ',' && !escaped;
        escaped = *c == '\\' && !escaped;
        separates
    });
    dn.get(comma?.0 + 1..)
}

/// The object, and everything above it within the domain; nothing, if it is not in the domain.
pub(super) fn upwards<'a>(dn: &'a str, domain: &str) -> Vec<&'a str> {
    let mut line = Vec::new();
    let mut at = Some(dn);
    while let Some(here) = at {
        line.push(here);
        if here.eq_ignore_ascii_case(domain) {
            return line;
        }
        at = parent(here);
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_above_is_behind_the_first_comma_that_separates() {
        assert_eq!(parent("CN=a,OU=b,DC=c"), Some("OU=b,DC=c"));
        assert_eq!(parent(r"CN=Doe\, Jane,OU=b"), Some("OU=b"));
        assert_eq!(parent(r"CN=back\\,OU=b"), Some("OU=b"));
        assert_eq!(parent("DC=c"), None);
    }

    #[test]
    fn the_way_up_ends_at_the_domain() {
        assert_eq!(upwards("CN=a,OU=b,DC=c,DC=d", "dc=c,dc=d"), ["CN=a,OU=b,DC=c,DC=d", "OU=b,DC=c,DC=d", "DC=c,DC=d"]);
        assert_eq!(upwards("DC=c,DC=d", "DC=c,DC=d"), ["DC=c,DC=d"]);
        assert!(upwards("CN=a,DC=other", "DC=c,DC=d").is_empty());
    }
}
