//! Event ids: Microsoft's published ones for password writeback, so that administrators find what they know.

use serde::{Serialize, Serializer};

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// Something an agent's event log records.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Event { $($(#[$doc])* $name,)* }

        impl Event {
            /// Every event.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number.
            #[must_use]
            pub fn id(self) -> u32 {
                match self { $(Self::$name => $id,)* }
            }

            /// The name, as Microsoft documents it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

events! {
    /// A reset begins.
    PasswordResetStart = 31001,
    /// A reset, or an unlock, is done.
    PasswordResetSuccess = 31002,
    /// A reset was not done.
    PasswordResetFail = 31003,
    /// Enrolment begins.
    OnboardingEventStart = 31004,
    /// The agent is enrolled.
    OnboardingEventSuccess = 31005,
    /// A change begins.
    ChangePasswordStart = 31006,
    /// A change is done.
    ChangePasswordSuccess = 31007,
    /// A change was not done.
    ChangePasswordFail = 31008,
    /// The agent was revoked.
    OffboardingEventSuccess = 31013,
    /// The agent started.
    WriteBackServiceStarted = 31015,
    /// The agent stopped.
    WriteBackServiceStopped = 31016,
    /// The relay accepted the agent's assertion: a session is open.
    AuthTokenSuccess = 31017,
    /// The agent made its keys.
    KeyPairCreationSuccess = 31018,
    /// No connection to the relay: it does not answer, or its certificate is not trusted.
    ServiceBusListenerError = 31034,
    /// Something unexpected.
    UnknownError = 32000,
    /// The relay refused the enrolment.
    ServiceError = 32001,
    /// The session broke off.
    ServiceBusError = 32002,
    /// A command that is not valid: it was not executed.
    InPutValidationError = 32003,
    /// A sealed password that can't be opened.
    DecryptionError = 32004,
    /// A configuration, key or journal file can't be read or written.
    ConfigurationError = 32005,
    /// The relay refused the agent's assertion.
    AuthTokenError = 32009,
    /// The directory does not answer, or answers something unexpected.
    ADUnKnownError = 33001,
    /// No such account.
    ADUserNotFoundError = 33002,
    /// More than one account fits (spelled as Microsoft does).
    ADMutliMatchError = 33003,
    /// A right is missing.
    ADPermissionsError = 33004,
    /// The account is disabled.
    ADUserAccountDisabled = 33005,
    /// The account is locked.
    ADUserAccountLockedOut = 33006,
    /// The current password is wrong.
    ADUserIncorrectPassword = 33007,
    /// The domain's password policy refuses the password.
    ADPasswordPolicyError = 33008,
    /// The agent's directory configuration is wrong.
    ADConfigurationError = 33009,
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.id())
    }
}
