//! The outcome: an agent's signed answer, the only truth about a command.
//!
//! JWS compact, `typ: writeback-outcome+jwt`, signed by the agent, for the portal that asked.

use serde::{Deserialize, Serialize};

use super::account::FoundAccount;
use super::event::Event;
use super::ids::{AgentId, CommandId, ObjectId, PortalId, TenantId};
use super::jose::{JoseError, Jws, PublicKey, SigningKey};
use super::untrusted::Untrusted;
use crate::clock::UnixTime;

/// The `typ` header of an outcome.
pub const OUTCOME_TYP: &str = "writeback-outcome+jwt";

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The directory has it.
    Succeeded,
    /// The directory refused; asking again changes nothing.
    Rejected,
    /// Not done, for a technical reason; may be tried again.
    Failed,
    /// Never started before `exp`.
    Expired,
    /// It may have been done; people have to look.
    Unknown,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $status:ident, $event:ident;)*) => {
        /// Why, in one word that programs can rely on. Each code has one status and one event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands in an outcome.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What is known with this code.
            #[must_use]
            pub fn status(self) -> Status {
                match self { $(Self::$name => Status::$status,)* }
            }

            /// How the event log names it.
            #[must_use]
            pub fn event(self) -> Event {
                match self { $(Self::$name => Event::$event,)* }
            }
        }
    };
}

codes! {
    /// The new password is set.
    PasswordReset, "password_reset", Succeeded, PasswordResetSuccess;
    /// The password is changed.
    PasswordChanged, "password_changed", Succeeded, ChangePasswordSuccess;
    /// The account is unlocked.
    AccountUnlocked, "account_unlocked", Succeeded, PasswordResetSuccess;
    /// Length, complexity, history, age, or a password filter.
    PasswordPolicy, "password_policy", Rejected, ADPasswordPolicyError;
    /// The domain controller can't check the password's history in a reset, and that was asked for.
    HistoryUnavailable, "history_unavailable", Rejected, ADConfigurationError;
    /// The current password is wrong.
    IncorrectPassword, "incorrect_password", Rejected, ADUserIncorrectPassword;
    /// No such account.
    UserNotFound, "user_not_found", Rejected, ADUserNotFoundError;
    /// More than one account fits.
    AmbiguousUser, "ambiguous_user", Rejected, ADMutliMatchError;
    /// The account is disabled.
    AccountDisabled, "account_disabled", Rejected, ADUserAccountDisabled;
    /// The account is locked, so its password can't be changed with the current one.
    AccountLocked, "account_locked", Rejected, ADUserAccountLockedOut;
    /// The account is, or was, in a protected group, or governs what the agent stands on: nobody but its administrators
    /// touches it.
    ProtectedAccount, "protected_account", Rejected, ADPermissionsError;
    /// The account was written as often as it may be within an hour; `retry_at` says when it may be again.
    RateLimited, "rate_limited", Rejected, PasswordResetFail;
    /// The account's own setting: its user may not change the password.
    UserCannotChangePassword, "user_cannot_change_password", Rejected, ADPermissionsError;
    /// The agent's service account lacks a right on this account.
    InsufficientRights, "insufficient_rights", Rejected, ADPermissionsError;
    /// The operation does not take this option, or the account is such that it would change nothing.
    Unsupported, "unsupported", Rejected, InPutValidationError;
    /// The agent takes no commands of this portal any more.
    PortalNotTrusted, "portal_not_trusted", Rejected, InPutValidationError;
    /// No domain controller answers.
    DirectoryUnavailable, "directory_unavailable", Failed, ADUnKnownError;
    /// The sealed password can't be opened, or belongs to another command.
    DecryptionFailed, "decryption_failed", Failed, DecryptionError;
    /// The agent stopped in the middle, and the directory has not changed.
    Interrupted, "interrupted", Failed, UnknownError;
    /// Something unexpected in the agent.
    Internal, "internal", Failed, UnknownError;
    /// Never started before `exp`.
    Expired, "expired", Expired, PasswordResetFail;
    /// The agent asked the domain controller afterwards and could not find out.
    Unknown, "unknown", Unknown, PasswordResetFail;
}

/// The claims of an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The agent.
    pub iss: AgentId,
    /// The portal that asked.
    pub aud: PortalId,
    /// The organisation.
    pub tenant: TenantId,
    /// The outcome's own id.
    pub jti: ObjectId,
    /// The command's `jti`.
    pub command: CommandId,
    /// When it was signed.
    pub iat: UnixTime,
    /// What is known.
    pub status: Status,
    /// Why: one of [`Code`], or one that a newer agent knows.
    pub code: Untrusted,
    /// The event in the agent's log.
    pub event_id: u32,
    /// For people.
    pub detail: Untrusted,
    /// The directory has certainly not changed: a new command does no harm.
    pub retry_safe: bool,
    /// Before this time a new command will be refused in the same way; only with `rate_limited`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<UnixTime>,
    /// Only with `succeeded`: what still keeps the user from logging on, as far as the agent can tell. Each is one of
    /// [`Hindrance`](super::hindrance::Hindrance), or one that a newer agent knows. Absent if it can't tell, or is older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrances: Option<Vec<Untrusted>>,
    /// How long the directory took, in milliseconds; 0 if it was not asked.
    pub directory_ms: u64,
    /// The account that was found, whatever became of the command; older agents don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Box<FoundAccount>>,
}

impl Outcome {
    /// Signs it.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn sign(&self, key: &SigningKey) -> Result<String, JoseError> {
        key.sign(OUTCOME_TYP, self)
    }

    /// Takes a signed outcome apart; nothing is verified yet.
    ///
    /// # Errors
    /// If it is not a JWS of this type.
    pub fn parse(jws: &str) -> Result<Jws<'_>, JoseError> {
        Jws::parse(jws, OUTCOME_TYP)
    }

    /// Verifies with the agent's key, and that it answers this command.
    ///
    /// # Errors
    /// If the signature does not fit, or it is about something else.
    pub fn verify(jws: &str, key: &PublicKey, command: &super::command::Command) -> Result<Self, JoseError> {
        Self::verify_by(jws, [key], command)
    }

    /// The same with whichever of the keys the `kid` names.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_by<'k>(
        jws: &str,
        keys: impl IntoIterator<Item = &'k PublicKey>,
        command: &super::command::Command,
    ) -> Result<Self, JoseError> {
        let outcome: Self = Self::parse(jws)?.verify(keys)?;
        if outcome.iss != command.aud {
            return Err(JoseError::mismatch("iss", "the agent that the command names is expected"));
        }
        if outcome.aud != command.iss {
            return Err(JoseError::Audience { expected: command.iss.to_string() });
        }
        if outcome.tenant != command.tenant {
            return Err(JoseError::mismatch("tenant", "the command's is expected"));
        }
        if outcome.command != command.jti {
            return Err(JoseError::mismatch("command", "the jti of the command is expected"));
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, Operation, Subject};
    use super::super::jose::Validity;
    use super::*;
    use crate::clock::System;

    #[test]
    fn an_outcome_answers_one_command_of_one_portal_and_tenant_by_the_agent_that_it_names() {
        let key = SigningKey::generate(&System).unwrap();
        let command = Command {
            iss: "portal-1".parse().unwrap(),
            aud: AgentId::new(&System, &System),
            tenant: "contoso".parse().unwrap(),
            jti: CommandId::new(&System, &System),
            validity: Validity { iat: UnixTime(1), exp: UnixTime(2) },
            sub_id: Subject::upn("jane@corp.example").unwrap(),
            operation: Operation::UnlockAccount,
            options: Default::default(),
            sealed: None,
        };
        let outcome = Outcome {
            iss: command.aud,
            aud: command.iss.clone(),
            tenant: command.tenant.clone(),
            jti: ObjectId::new(&System, &System),
            command: command.jti,
            iat: UnixTime(1),
            status: Status::Succeeded,
            code: "account_unlocked".into(),
            event_id: 31002,
            detail: Untrusted::default(),
            retry_safe: false,
            retry_at: None,
            hindrances: None,
            directory_ms: 1,
            account: None,
        };
        let read = |change: fn(&mut Outcome)| {
            let mut changed = outcome.clone();
            change(&mut changed);
            Outcome::verify(&changed.sign(&key).unwrap(), key.public(), &command)
        };
        assert_eq!(read(|_| ()).unwrap(), outcome);
        let mismatch = |error, expected| matches!(error, Err(JoseError::Mismatch { claim, .. }) if claim == expected);
        assert!(mismatch(read(|o| o.iss = AgentId::new(&System, &System)), "iss"));
        let portal = "portal-1".to_owned();
        assert_eq!(read(|o| o.aud = "portal-2".parse().unwrap()), Err(JoseError::Audience { expected: portal }));
        assert!(mismatch(read(|o| o.tenant = "fabrikam".parse().unwrap()), "tenant"));
        assert!(mismatch(read(|o| o.command = CommandId::new(&System, &System)), "command"));
    }
}
