//! What an agent can do, by what it found when it last checked its directory: for all accounts, or for one. The relay's
//! `availability` and the portal's choice of an agent both go by this.
//!
//! A failed row counts where its [`Scope`](super::scope::Scope) says: for some operations, in a domain, or in a unit of it.
//! One without a scope is about the agent itself, or of an older one, and counts for everything. It is not known in which
//! unit an account is, so one bad unit of several makes a domain [`Readiness::Degraded`], and the unit answers for itself.

use std::collections::BTreeSet;

use super::api::{PreflightReport, PreflightRow, PreflightState};
use super::command::{Operation, Subject};
use super::scope::{Scope, ServedDomain};

/// What an agent can do of what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Readiness {
    /// None of the agent's domains has such accounts: it would answer `user_not_found`.
    NotServed,
    /// Nothing.
    NotReady,
    /// Something: not every operation, or not everywhere.
    Degraded,
    /// All of it.
    Ready,
}

impl Readiness {
    /// Whether it is worth a command.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Self::Degraded | Self::Ready)
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need<'a> {
    /// Whose account; without one, everybody's.
    pub account: Option<&'a Subject>,
    /// What to do; without one, anything.
    pub operation: Option<Operation>,
}

impl<'a> Need<'a> {
    /// For one account, this operation.
    #[must_use]
    pub fn command(account: &'a Subject, operation: Operation) -> Self {
        Self { account: Some(account), operation: Some(operation) }
    }

    fn operations(self) -> Vec<Operation> {
        self.operation.map_or_else(|| Operation::ALL.to_vec(), |one| vec![one])
    }

    fn suffix(self) -> Option<&'a str> {
        match self.account? {
            Subject::Upn(upn) => upn.rsplit_once('@').map(|(_, suffix)| suffix),
            // It says nothing of a domain.
            Subject::ObjectGuid(_) => None,
        }
    }
}

/// Judges a report.
#[must_use]
pub fn judge(report: &PreflightReport, asked: Need<'_>) -> Readiness {
    let failed: Vec<&PreflightRow> = report.rows.iter().filter(|row| row.state == PreflightState::Failed).collect();
    if failed.iter().any(|row| row.scope.is_none()) {
        return Readiness::NotReady;
    }
    let domains = domains(report);
    let candidates: Vec<Domain<'_>> = domains
        .iter()
        .filter(|domain| asked.suffix().is_none_or(|suffix| domain.has(suffix)))
        .map(|served| Domain::new(served, &failed))
        .collect();
    if candidates.is_empty() {
        return if domains.is_empty() { Readiness::Ready } else { Readiness::NotServed };
    }
    // Several domains may share a suffix: then all must answer, or another one's account could be the wrong one.
    if asked.suffix().is_some() && candidates.iter().any(Domain::is_away) {
        return Readiness::NotReady;
    }
    let operations = asked.operations();
    let pairs = || candidates.iter().flat_map(|domain| operations.iter().map(move |operation| (domain, *operation)));
    if !pairs().any(|(domain, operation)| domain.does(operation)) {
        Readiness::NotReady
    } else if candidates.iter().all(|domain| domain.is_well(&operations)) {
        Readiness::Ready
    } else {
        Readiness::Degraded
    }
}

/// Those that the report names, in its list or in a row.
fn domains(report: &PreflightReport) -> Vec<ServedDomain> {
    let mut domains = report.domains.clone();
    for scope in report.rows.iter().filter_map(|row| row.scope.as_ref()) {
        if domains.iter().all(|known| known.name != scope.domain) {
            domains.push(ServedDomain { name: scope.domain.clone(), upn_suffixes: Vec::new(), units: 0 });
        }
    }
    domains
}

/// A domain, and what fails in it.
struct Domain<'a> {
    units: usize,
    failed: Vec<(&'a PreflightRow, &'a Scope)>,
}

impl<'a> Domain<'a> {
    fn new(served: &ServedDomain, failed: &[&'a PreflightRow]) -> Self {
        let own = failed.iter().filter_map(|row| Some((*row, row.scope.as_ref()?)));
        let failed: Vec<_> = own.filter(|(_, scope)| scope.domain == served.name).collect();
        Self { units: usize::try_from(served.units).unwrap_or(usize::MAX).max(1), failed }
    }

    /// Whether it can't be asked at all.
    fn is_away(&self) -> bool {
        let everything = |scope: &Scope| !scope.unit && Operation::ALL.iter().all(|operation| scope.has(*operation));
        self.failed.iter().any(|(_, scope)| everything(scope))
    }

    /// Whether an operation works in one unit at least.
    fn does(&self, operation: Operation) -> bool {
        let mut bad_units = BTreeSet::new();
        for (row, scope) in self.failed.iter().filter(|(_, scope)| scope.has(operation)) {
            if !scope.unit {
                return false;
            }
            bad_units.insert(&row.target);
        }
        bad_units.len() < self.units
    }

    /// Whether these operations work everywhere, with all their options, which only a reset has.
    fn is_well(&self, operations: &[Operation]) -> bool {
        let resets = operations.contains(&Operation::ResetPassword);
        let concerns = |scope: &Scope| match scope.operations.as_slice() {
            [] => resets,
            _ => operations.iter().any(|one| scope.has(*one)),
        };
        !self.failed.iter().any(|(_, scope)| concerns(scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::protocol::untrusted::Untrusted;
    use Operation::{ChangePassword, ResetPassword, UnlockAccount};
    use PreflightState::{Failed, Warning};
    use Readiness::{Degraded, NotReady, NotServed, Ready};

    fn row(target: &str, state: PreflightState, scope: Option<Scope>) -> PreflightRow {
        let (check, detail, remedy) = ("c".into(), "d".into(), Untrusted::default());
        PreflightRow { check, target: target.into(), state, detail, remedy, remedy_code: None, scope }
    }

    fn unit(domain: &str, unit: &str, operations: &[Operation]) -> PreflightRow {
        row(unit, Failed, Some(Scope::new(domain, true, operations)))
    }

    fn whole(domain: &str, operations: &[Operation]) -> PreflightRow {
        row("dc1", Failed, Some(Scope::new(domain, false, operations)))
    }

    fn served(name: &str, suffixes: &[&str], units: u32) -> ServedDomain {
        ServedDomain { name: name.into(), upn_suffixes: suffixes.iter().map(|s| (*s).into()).collect(), units }
    }

    /// Two domains of a forest, one with two units, and a suffix that both have.
    fn forest(rows: Vec<PreflightRow>) -> PreflightReport {
        let domains =
            vec![served("a.test", &["a.test", "both.test"], 2), served("b.test", &["b.test", "both.test"], 1)];
        PreflightReport { checked_at: UnixTime(1), rows, domains }
    }

    fn of(report: &PreflightReport, account: &str, operation: Option<Operation>) -> Readiness {
        let subject = (!account.is_empty()).then(|| Subject::from_text(account).unwrap());
        judge(report, Need { account: subject.as_ref(), operation })
    }

    const GUID: &str = "6f2c1b1e-3f0a-4b7e-9a51-0d2f3c4b5a69";
    const ALL: &[Operation] = &Operation::ALL;

    #[test]
    fn what_fails_counts_for_its_operations_in_its_unit_and_its_domain() {
        let (a, b, both) = ("jane@A.test", "jane@b.test", "jane@both.test");
        let (reset, change, unlock) = (Some(ResetPassword), Some(ChangePassword), Some(UnlockAccount));
        for (rows, expected) in [
            (vec![], [("", None, Ready), (a, reset, Ready), (GUID, None, Ready), ("jane@c.test", None, NotServed)]),
            // A warning keeps nobody from anything, whatever it is about.
            (
                vec![row("u1", Warning, None), row("u1", Warning, Some(Scope::new("a.test", true, ALL)))],
                [("", None, Ready), (a, None, Ready), (b, None, Ready), (GUID, reset, Ready)],
            ),
            // One unit of two: its domain is degraded, the other one is not.
            (
                vec![unit("a.test", "u1", &[ResetPassword])],
                [("", None, Degraded), (a, reset, Degraded), (a, unlock, Ready), (b, reset, Ready)],
            ),
            // Twice the same unit is one unit.
            (
                vec![unit("a.test", "u1", ALL), unit("a.test", "u1", &[ResetPassword])],
                [("", reset, Degraded), (a, reset, Degraded), (a, change, Degraded), (b, None, Ready)],
            ),
            // Both units: nobody's password of that domain can be reset, but accounts can be unlocked.
            (
                vec![unit("a.test", "u1", &[ResetPassword]), unit("a.test", "u2", &[ResetPassword])],
                [("", reset, Degraded), (a, reset, NotReady), (a, None, Degraded), (a, change, Ready)],
            ),
            // One for this, one for that.
            (
                vec![unit("a.test", "u1", &[ResetPassword]), unit("a.test", "u2", &[UnlockAccount])],
                [(a, reset, Degraded), (a, unlock, Degraded), (a, change, Ready), (a, None, Degraded)],
            ),
            // Only an option of a reset.
            (
                vec![unit("b.test", "u", &[])],
                [("", None, Degraded), (b, reset, Degraded), (b, unlock, Ready), (GUID, reset, Degraded)],
            ),
            // A domain that can't be reached; of a suffix that another one has, too, nothing is known without it.
            (
                vec![whole("b.test", ALL)],
                [("", None, Degraded), (a, None, Ready), (b, None, NotReady), (both, unlock, NotReady)],
            ),
            (
                vec![whole("b.test", ALL)],
                [(GUID, reset, Degraded), ("", reset, Degraded), (b, unlock, NotReady), ("x@c.test", None, NotServed)],
            ),
            // A right that is missing in a domain does not keep the other one from being asked.
            (
                vec![unit("b.test", "u", ALL)],
                [(b, reset, NotReady), (both, reset, Degraded), (a, reset, Ready), ("", None, Degraded)],
            ),
            // All of it.
            (
                vec![whole("b.test", ALL), unit("a.test", "u1", ALL), unit("a.test", "u2", ALL)],
                [("", None, NotReady), (a, None, NotReady), (b, None, NotReady), (GUID, unlock, NotReady)],
            ),
            // About the agent itself, or of an older one.
            (
                vec![row("identity.json", Failed, None)],
                [("", None, NotReady), (a, unlock, NotReady), (b, None, NotReady), (GUID, None, NotReady)],
            ),
        ] {
            let report = forest(rows);
            for (account, operation, readiness) in expected {
                assert_eq!(of(&report, account, operation), readiness, "{account:?} {operation:?}: {report:#?}");
            }
        }
    }

    #[test]
    fn a_report_of_an_older_agent_is_judged_as_before() {
        let old =
            |state| PreflightReport { checked_at: UnixTime(1), rows: vec![row("u", state, None)], domains: vec![] };
        for (state, expected) in [(PreflightState::Ok, Ready), (Warning, Ready), (Failed, NotReady)] {
            assert_eq!(of(&old(state), "", None), expected);
            assert_eq!(of(&old(state), "jane@a.test", Some(ResetPassword)), expected);
        }
    }

    #[test]
    fn a_domain_that_only_a_row_names_is_one_place_with_any_account() {
        let report = PreflightReport {
            checked_at: UnixTime(1),
            rows: vec![unit("dc1.a.test", "DC=a,DC=test", &[ResetPassword])],
            domains: vec![],
        };
        assert_eq!(of(&report, "jane@a.test", Some(ResetPassword)), NotReady);
        assert_eq!(of(&report, "jane@a.test", Some(UnlockAccount)), Ready);
        assert_eq!(of(&report, "", None), Degraded);
    }

    #[test]
    fn an_operation_of_a_newer_version_keeps_from_nothing_that_is_known_here() {
        let scope = Scope { domain: "a.test".into(), unit: false, operations: vec!["of_a_newer_version".into()] };
        let report = forest(vec![row("dc1", Failed, Some(scope))]);
        assert_eq!(of(&report, "jane@a.test", None), Ready);
    }
}
