//! Where the service account's password has been refused, and where it is tried all the same. Each wrong one counts as a bad
//! logon, here and at the PDC emulator, and the domain's lockout policy would lock the account: so it is never tried at all
//! controllers of many. One controller's refusal proves little: it may not have heard of a new password yet.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

/// How long a refusal counts: longer than the 30 minutes in which Windows counts bad logons, if an administrator leaves it at
/// what is suggested to him.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(31 * 60);
/// After so many refusals, and no logon that succeeded in between, it is tried at no further controller.
const MOST: usize = 2;

/// The tries of one password.
pub(super) struct PasswordTries {
    password: Zeroizing<String>,
    under_way: usize,
    refusals: Vec<Refusal>,
    /// Controllers that have taken it.
    taken_by: HashSet<String>,
}

struct Refusal {
    controller: String,
    at: Instant,
    /// No logon with it has succeeded since.
    latest: bool,
}

/// Whether the password is tried at a controller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes; it is under way from here on.
    Now,
    /// That depends on what is under way.
    Wait,
    /// No: this controller has refused it.
    RefusedHere,
    /// No: these have.
    RefusedBy(Vec<String>),
}

impl PasswordTries {
    pub(super) fn of(password: Zeroizing<String>) -> Self {
        Self { password, under_way: 0, refusals: Vec::new(), taken_by: HashSet::new() }
    }

    pub(super) fn are_of(&self, password: &str) -> bool {
        *self.password == password
    }

    /// Of another password, which nobody has refused. What is under way is so all the same.
    pub(super) fn change_to(&mut self, password: Zeroizing<String>) {
        *self = Self { under_way: self.under_way, ..Self::of(password) };
    }

    pub(super) fn admit(&mut self, controller: &str, now: Instant) -> Admission {
        self.refusals.retain(|refusal| now.duration_since(refusal.at) < REFUSED_FOR);
        let here = self.refusals.iter().filter(|refusal| refusal.controller == controller);
        if here.clone().any(|refusal| refusal.latest) || here.count() >= MOST {
            return Admission::RefusedHere;
        }
        let latest: Vec<_> = self.refusals.iter().filter(|refusal| refusal.latest).collect();
        if latest.len() >= MOST && !self.taken_by.contains(controller) {
            return Admission::RefusedBy(latest.into_iter().map(|refusal| refusal.controller.clone()).collect());
        }
        // What is under way may be refused, too.
        if self.under_way > 0 && latest.len() + self.under_way >= MOST {
            return Admission::Wait;
        }
        self.under_way += 1;
        Admission::Now
    }

    /// What was under way has ended, however.
    pub(super) fn ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    pub(super) fn taken(&mut self, controller: &str) {
        self.refusals.retain(|refusal| refusal.controller != controller);
        self.refusals.iter_mut().for_each(|refusal| refusal.latest = false);
        self.taken_by.insert(controller.to_owned());
    }

    pub(super) fn refused(&mut self, controller: &str, now: Instant) {
        // One that took it knows of another one now, and so will the others.
        if self.taken_by.contains(controller) {
            self.taken_by.clear();
        }
        self.refusals.push(Refusal { controller: controller.to_owned(), at: now, latest: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Tried(PasswordTries, Instant);

    impl Tried {
        fn nowhere() -> Self {
            Self(PasswordTries::of(Zeroizing::new("x".to_owned())), Instant::now())
        }

        fn admission(&mut self, controller: &str) -> Admission {
            self.0.admit(controller, self.1)
        }

        fn ends(&mut self, controller: &str, right: bool) {
            self.0.ended();
            if right { self.0.taken(controller) } else { self.0.refused(controller, self.1) }
        }

        /// Whether it is admitted; and if so, it is right or not.
        fn at(&mut self, controller: &str, right: bool) -> bool {
            let admitted = self.admission(controller) == Admission::Now;
            if admitted {
                self.ends(controller, right);
            }
            admitted
        }

        /// At how many of nine it is admitted.
        fn at_all(&mut self, right: bool) -> usize {
            (0..9).filter(|n| self.at(&format!("dc{n}"), right)).count()
        }
    }

    #[test]
    fn a_wrong_password_is_tried_at_two_controllers_of_many_and_then_not_for_half_an_hour() {
        let mut tried = Tried::nowhere();
        assert_eq!((tried.at_all(false), tried.at_all(false)), (2, 0));
        assert_eq!(tried.admission("dc8"), Admission::RefusedBy(vec!["dc0".into(), "dc1".into()]));
        assert_eq!(tried.admission("dc0"), Admission::RefusedHere);
        tried.1 += REFUSED_FOR - SECOND;
        assert_eq!(tried.at_all(false), 0);
        tried.1 += SECOND;
        assert_eq!((tried.at_all(false), tried.at_all(false)), (2, 0));
    }

    #[test]
    fn side_by_side_no_more_are_under_way_than_may_be_refused() {
        let mut tried = Tried::nowhere();
        assert_eq!([tried.admission("a"), tried.admission("b")], [Admission::Now, Admission::Now]);
        assert_eq!(tried.admission("c"), Admission::Wait);
        tried.ends("a", false);
        assert_eq!(tried.admission("c"), Admission::Wait, "the second may be refused, too");
        tried.ends("b", true);
        assert_eq!(tried.admission("c"), Admission::Now);
    }

    #[test]
    fn one_stale_controller_keeps_nobody_from_the_others_and_is_asked_again_but_not_for_ever() {
        let mut tried = Tried::nowhere();
        assert!(tried.at("stale", false));
        assert!(!tried.at("stale", false), "until a logon elsewhere shows that it is only stale");
        assert!(tried.at("good", true));
        assert!(tried.at("stale", false));
        assert!(tried.at("good", true));
        assert!(!tried.at("stale", false), "a third one could lock the account");
        tried.1 += REFUSED_FOR;
        assert!(tried.at("stale", true));
    }

    #[test]
    fn a_password_that_all_have_taken_and_that_was_changed_since_is_refused_twice() {
        let mut tried = Tried::nowhere();
        assert_eq!((tried.at_all(true), tried.at_all(false)), (9, 2));
    }
}
