//! The domain controllers of a domain, as its DNS names them ([MS-ADTS] 6.3.2.3), in the order in which they are tried.

use std::collections::HashSet;
use std::sync::Arc;

use crate::clock::Random;
use crate::net::names::{NameError, Names, Service};

/// So many controllers are known of a domain. An answer of the DNS has room for a thousand, and nobody has signed it; who has
/// more names `sites`.
const KNOWN: usize = 256;

/// Where the controllers of a domain are found.
pub(super) struct Discovery {
    domain: String,
    /// Those of the first site come first, and those of none last.
    sites: Vec<String>,
    names: Arc<Names>,
    random: Arc<dyn Random>,
}

impl Discovery {
    pub(super) fn new(domain: &str, sites: &[String], names: Arc<Names>, random: Arc<dyn Random>) -> Self {
        Self { domain: domain.to_owned(), sites: sites.to_vec(), names, random }
    }

    /// The controllers, each once, with its rank. A site without any of its own is no trouble.
    ///
    /// # Errors
    /// If the domain has none, or nobody says.
    pub(super) async fn services(&self) -> Result<Vec<(Rank, Service)>, NameError> {
        let domain = &self.domain;
        let everywhere = self.names.services(&format!("_ldap._tcp.dc._msdcs.{domain}")).await?;
        let mut found = Vec::new();
        for (place, site) in self.sites.iter().enumerate() {
            let here = self.names.services(&format!("_ldap._tcp.{site}._sites.dc._msdcs.{domain}")).await;
            match here {
                Ok(here) => found.extend(ranked(place, arranged(here, &*self.random))),
                Err(error) => tracing::warn!(%error, site, "the site has no domain controllers of its own"),
            }
        }
        found.extend(ranked(self.sites.len(), arranged(everywhere, &*self.random)));
        Ok(once(found))
    }
}

/// By its site's place, and within it by its priority. Controllers of one rank are as good as each other.
pub(super) type Rank = (usize, u16);

fn ranked(place: usize, services: Vec<Service>) -> impl Iterator<Item = (Rank, Service)> {
    services.into_iter().map(move |service| ((place, service.priority), service))
}

/// Each once, and not too many.
fn once(found: Vec<(Rank, Service)>) -> Vec<(Rank, Service)> {
    let mut known = HashSet::new();
    let new = |(_, service): &(Rank, Service)| known.insert((service.host.clone(), service.port));
    found.into_iter().filter(new).take(KNOWN).collect()
}

/// By priority; among equals at random, each as often as its weight says (RFC 2782).
fn arranged(mut services: Vec<Service>, random: &dyn Random) -> Vec<Service> {
    // Those of weight 0 first: so they have a small chance, too.
    services.sort_by_key(|service| (service.priority, service.weight));
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(priority) = services.first().map(|first| first.priority) {
        let equals = services.iter().take_while(|service| service.priority == priority);
        let total: u32 = equals.clone().map(|service| u32::from(service.weight)).sum();
        let chosen = below_or_at(total, random);
        let mut sum = 0;
        let at = equals
            .map(|service| {
                sum += u32::from(service.weight);
                sum
            })
            .position(|sum| sum >= chosen);
        ordered.push(services.remove(at.unwrap_or_default()));
    }
    ordered
}

/// Evenly from 0 to `most`.
fn below_or_at(most: u32, random: &dyn Random) -> u32 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u32::try_from(u64::from_le_bytes(bytes) % (u64::from(most) + 1)).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn service(priority: u16, weight: u16, host: &str) -> Service {
        Service { priority, weight, host: host.to_owned(), port: 389 }
    }

    /// 0, 1, 2, and so on: spread evenly over every range.
    struct Counting(AtomicU64);
    impl Random for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            let n = self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes();
            buffer.iter_mut().zip(n).for_each(|(byte, of)| *byte = of);
        }
    }

    fn hosts(services: Vec<Service>, random: &dyn Random) -> Vec<String> {
        arranged(services, random).into_iter().map(|service| service.host).collect()
    }

    #[test]
    fn a_smaller_priority_comes_first_whatever_the_weights() {
        let random = Counting(AtomicU64::new(0));
        for _ in 0..50 {
            let services = vec![service(20, 65535, "c"), service(0, 0, "a"), service(10, 1, "b")];
            assert_eq!(hosts(services, &random), ["a", "b", "c"]);
        }
        assert!(hosts(Vec::new(), &random).is_empty());
    }

    #[test]
    fn of_a_thousand_controllers_that_the_dns_names_the_first_are_known_each_once() {
        let found = (0..1000).map(|n| service(0, 0, &format!("dc{}", n / 2))).collect();
        let known: Vec<_> = once(ranked(0, found).collect()).into_iter().map(|(_, service)| service.host).collect();
        assert_eq!(known, (0..KNOWN).map(|n| format!("dc{n}")).collect::<Vec<_>>());
    }

    #[test]
    fn among_equals_each_is_first_as_often_as_its_weight_says() {
        let random = Counting(AtomicU64::new(0));
        let services = || vec![service(0, 300, "a"), service(0, 100, "b"), service(0, 0, "c")];
        let rounds = 401 * 3;
        let mut first = std::collections::BTreeMap::new();
        for _ in 0..rounds {
            let order = hosts(services(), &random);
            assert_eq!(order.len(), 3);
            *first.entry(order[0].clone()).or_insert(0) += 1;
        }
        let share = |host: &str| f64::from(*first.get(host).unwrap_or(&0)) / f64::from(rounds);
        assert!((0.65..0.85).contains(&share("a")) && (0.15..0.35).contains(&share("b")), "{first:?}");
        assert!(share("c") > 0.0 && share("c") < 0.05, "{first:?}");
    }
}
