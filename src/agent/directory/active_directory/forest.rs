//! The domains of a forest, as the administrator writes them: which accounts are whose, and where the controllers are.

use super::config::{Config, ConfigError, DomainConfig};
use crate::protocol::account::FoldedName;

impl Config {
    /// Each domain as a configuration of its own, with what is said for all: at least one.
    pub(super) fn each_domain(&self) -> Result<Vec<Self>, ConfigError> {
        if self.domains.is_empty() {
            return Ok(vec![self.clone()]);
        }
        let given = [
            ("url", !self.url.is_empty()),
            ("domain", self.domain.is_some()),
            ("sites", !self.sites.is_empty()),
            ("base_dn", !self.base_dn.is_empty()),
        ];
        if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(ConfigError::Both(field));
        }
        let one = |domain: &DomainConfig| Self {
            url: domain.url.clone(),
            domain: Some(domain.name.clone()),
            sites: domain.sites.clone(),
            base_dn: domain.base_dn.clone(),
            ca_file: domain.ca_file.clone().or_else(|| self.ca_file.clone()),
            bind_user: domain.bind_user.clone().unwrap_or_else(|| self.bind_user.clone()),
            bind_password_file: domain.bind_password_file.clone().unwrap_or_else(|| self.bind_password_file.clone()),
            protected_groups: domain.protected_groups.clone().or_else(|| self.protected_groups.clone()),
            domains: vec![domain.clone()],
            ..self.clone()
        };
        Ok(self.domains.iter().map(one).collect())
    }

    /// Of one domain: the one whose controllers are found by DNS.
    pub(super) fn discovered_domain(&self) -> Result<Option<&str>, ConfigError> {
        let Some(domain) = &self.domain else {
            return if self.sites.is_empty() { Ok(None) } else { Err(ConfigError::Both("sites")) };
        };
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !domain.split('.').all(label) {
            return Err(ConfigError::Domain(domain.clone()));
        }
        match (self.url.is_empty(), self.domains.is_empty(), self.sites.is_empty()) {
            (true, _, _) => Ok(Some(domain)),
            // One of several may name its controllers, and has a name all the same.
            (false, false, true) => Ok(None),
            (false, true, _) => Err(ConfigError::Both("domain")),
            (false, false, false) => Err(ConfigError::Both("sites")),
        }
    }

    /// Of one domain: the UPN suffixes of its accounts; none if all accounts are its own.
    pub(super) fn suffixes(&self) -> Vec<FoldedName> {
        let of = |domain: &DomainConfig| {
            let further = domain.upn_suffixes.iter().map(|suffix| suffix.trim_start_matches('@'));
            [domain.name.as_str()].into_iter().chain(further).map(FoldedName::of).collect::<Vec<_>>()
        };
        self.domains.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::config;
    use crate::protocol::account::FoldedName;

    #[test]
    fn each_of_several_domains_has_its_own_and_what_is_said_for_all() {
        let config = config(
            "ca_file = 'ca.pem'\nprotected_groups = ['Helpdesk']\n[[domains]]\nname = 'a.example'\nsites = ['Berlin']\n\
             [[domains]]\nname = 'B.example'\nupn_suffixes = ['@Mail.example']\nurl = 'ldaps://dc.b.example'\n\
             bind_user = 'svc@b.example'\nbase_dn = 'OU=Staff,DC=b,DC=example'\n\
             protected_groups = []",
        );
        let [a, b] = &config.each_domain().unwrap()[..] else { panic!("two domains") };
        assert_eq!((a.discovered_domain().unwrap(), b.discovered_domain().unwrap()), (Some("a.example"), None));
        assert_eq!(
            (a.suffixes(), b.suffixes()),
            (vec![FoldedName::of("a.example")], ["b.example", "mail.example"].map(FoldedName::of).to_vec())
        );
        assert_eq!((&a.bind_user[..], &b.bind_user[..]), ("svc@corp.example", "svc@b.example"));
        assert!(a.base_dn.is_empty() && b.base_dn.len() == 1 && a.ca_file == b.ca_file && a.ca_file.is_some());
        assert_eq!(
            (a.protected_groups.as_deref(), b.protected_groups.as_deref()),
            (Some(&["Helpdesk".into()][..]), Some(&[][..]))
        );
        assert_eq!(b.endpoints().unwrap()[0].name, "dc.b.example");
    }

    #[test]
    fn where_the_controllers_are_is_said_once() {
        for (lines, named) in [
            ("", "url"),
            ("url = 'ldaps://a'\ndomain = 'a.example'", "domain"),
            ("url = 'ldaps://a'\nsites = ['Berlin']", "sites"),
            ("domain = 'ldaps://a.example'", "domain"),
            ("domain = 'a..example'", "domain"),
            ("url = 'ldaps://a'\n[[domains]]\nname = 'a.example'", "url"),
            ("base_dn = 'DC=a'\n[[domains]]\nname = 'a.example'", "base_dn"),
            ("[[domains]]\nname = 'a.example'\nurl = 'ldaps://a'\nsites = ['Berlin']", "sites"),
        ] {
            let config = config(lines);
            let checked = config.each_domain().and_then(|domains| {
                domains.iter().try_for_each(|one| match one.discovered_domain()? {
                    Some(_) => Ok(()),
                    None => one.endpoints().map(drop),
                })
            });
            let error = checked.unwrap_err().to_string();
            assert!(error.starts_with(&format!("{named}: ")), "{lines}: {error}");
        }
        assert_eq!(config("domain = 'corp.example'").discovered_domain().unwrap(), Some("corp.example"));
    }
}
