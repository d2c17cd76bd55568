//! The command: what a portal asks of one agent.
//!
//! JWS compact, `typ: writeback-command+jwt`, signed by the portal, for one agent, so nobody can have it executed by
//! two.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ids::{AgentId, CommandId, PortalId, TenantId};
use super::jose::{JoseError, Jws, PublicKey, SigningKey, Validity};
use super::limits::MAX_COMMAND_LIFETIME;
pub use super::subject::Subject;

/// The `typ` header of a command.
pub const COMMAND_TYP: &str = "writeback-command+jwt";

/// What the directory is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Set a new password, without the old one.
    ResetPassword,
    /// Set a new password, with the current one.
    ChangePassword,
    /// Unlock a locked account; no password.
    UnlockAccount,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 3] = [Self::ResetPassword, Self::ChangePassword, Self::UnlockAccount];

    /// As it stands in a command.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResetPassword => "reset_password",
            Self::ChangePassword => "change_password",
            Self::UnlockAccount => "unlock_account",
        }
    }
}

/// How a reset is done. A name that is not known is an error, never ignored; so is one that the operation does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Unlock the account too (`lockoutTime` = 0).
    pub unlock: bool,
    /// The user must choose another password at the next logon (`pwdLastSet` = 0).
    pub force_change_at_next_logon: bool,
    /// Refuse a password from the account's history, or refuse the reset where the domain controller can't do that. A
    /// change always looks at the history.
    pub enforce_history: bool,
}

/// The claims of a command. Claims that are not listed are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The portal.
    pub iss: PortalId,
    /// The one agent that may execute it.
    pub aud: AgentId,
    /// The organisation both serve.
    pub tenant: TenantId,
    /// The command's id, never used again.
    pub jti: CommandId,
    /// `iat` and `exp`, at most 300 s apart.
    #[serde(flatten)]
    pub validity: Validity,
    /// Whose account (RFC 9493).
    pub sub_id: Subject,
    /// What to do.
    pub operation: Operation,
    /// How.
    #[serde(default)]
    pub options: Options,
    /// The password, sealed to the agent ([`super::sealed`]); absent for `unlock_account`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

impl Command {
    /// Signs it.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn sign(&self, key: &SigningKey) -> Result<String, JoseError> {
        key.sign(COMMAND_TYP, self)
    }

    /// Takes a signed command apart; nothing is verified yet.
    ///
    /// # Errors
    /// If it is not a JWS of this type.
    pub fn parse(jws: &str) -> Result<Jws<'_>, JoseError> {
        Jws::parse(jws, COMMAND_TYP)
    }

    /// Verifies with the portal's keys: signature, form, and how long it may live. Whether it is in force *now* is for
    /// the caller to ask ([`Validity::check_now`]), since an expired command can still be a question.
    ///
    /// # Errors
    /// If anything of that does not hold.
    pub fn verify<'k>(jws: &Jws<'_>, keys: impl IntoIterator<Item = &'k PublicKey>) -> Result<Self, JoseError> {
        let command: Self = jws.verify(keys)?;
        command.validity.check_lifetime(MAX_COMMAND_LIFETIME)?;
        let wrong = match (command.operation, &command.sealed) {
            (Operation::ResetPassword, None) => "reset_password needs it",
            (Operation::ChangePassword, None) => "change_password needs it",
            (Operation::UnlockAccount, Some(_)) => "unlock_account has none",
            _ => return Ok(command),
        };
        Err(JoseError::mismatch("sealed", wrong))
    }
}
