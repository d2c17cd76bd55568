//! What a finding of a preflight is about: which accounts, and what with them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account::FoldedName;
use super::command::Operation;
use super::frame::v1;
use super::untrusted::Untrusted;

/// What a failed row keeps an agent from doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scope {
    /// The domain, by its name in the report's `domains`.
    pub domain: Untrusted,
    /// Whether the row is about one unit of it: its `target`. Else it is about the whole domain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unit: bool,
    /// The operations, as commands name them, that don't work there. None of them: only options of a reset don't, or nothing.
    pub operations: Vec<Untrusted>,
}

impl Scope {
    /// Of these operations in a domain, or in one unit of it.
    #[must_use]
    pub fn new(domain: &str, unit: bool, operations: &[Operation]) -> Self {
        let operations = operations.iter().map(|operation| operation.as_str().into()).collect();
        Self { domain: domain.into(), unit, operations }
    }

    /// Whether it is about this operation.
    #[must_use]
    pub fn has(&self, operation: Operation) -> bool {
        self.operations.iter().any(|named| *named == *operation.as_str())
    }
}

/// A domain that an agent serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServedDomain {
    /// As scopes name it: its DNS name, or its first domain controller.
    pub name: Untrusted,
    /// The UPN suffixes of its accounts. None: any account may be its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upn_suffixes: Vec<Untrusted>,
    /// In how many units it looks for accounts: at least one, if only the whole domain.
    #[serde(default)]
    pub units: u32,
}

impl ServedDomain {
    /// Whether an account with this UPN suffix may be its own.
    #[must_use]
    pub fn has(&self, suffix: &str) -> bool {
        let suffix = FoldedName::of(suffix);
        self.upn_suffixes.is_empty() || self.upn_suffixes.iter().any(|own| FoldedName::of(own.as_data()) == suffix)
    }
}

impl From<v1::PreflightScope> for Scope {
    fn from(scope: v1::PreflightScope) -> Self {
        let operations = scope.operations.into_iter().map(Into::into).collect();
        Self { domain: scope.domain.into(), unit: scope.unit, operations }
    }
}

impl From<Scope> for v1::PreflightScope {
    fn from(scope: Scope) -> Self {
        let operations = scope.operations.into_iter().map(Untrusted::into_data).collect();
        Self { domain: scope.domain.into_data(), unit: scope.unit, operations }
    }
}

impl From<v1::PreflightDomain> for ServedDomain {
    fn from(domain: v1::PreflightDomain) -> Self {
        let upn_suffixes = domain.upn_suffixes.into_iter().map(Into::into).collect();
        Self { name: domain.name.into(), upn_suffixes, units: domain.units }
    }
}

impl From<ServedDomain> for v1::PreflightDomain {
    fn from(domain: ServedDomain) -> Self {
        let upn_suffixes = domain.upn_suffixes.into_iter().map(Untrusted::into_data).collect();
        Self { name: domain.name.into_data(), upn_suffixes, units: domain.units }
    }
}
