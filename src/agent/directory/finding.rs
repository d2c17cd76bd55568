//! What a check of the directory, or of the agent's host, finds.

use crate::protocol::api::{PreflightRow, PreflightState};
use crate::protocol::event::Event;
use crate::protocol::remedy::Remedy;
use crate::protocol::untrusted::one_line;

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $title:literal, $event:ident;)*) => {
        /// Something that is looked at. Each check has one name for programs, one for people, and one event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            /// Every check, in the order in which people read them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands in a report.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// As people call it.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What the event log calls a failure of it.
            #[must_use]
            pub fn event(self) -> Event {
                match self { $(Self::$name => Event::$event,)* }
            }
        }
    };
}

checks! {
    /// A file that only the agent may read.
    PrivateFile, "private_file", "private file", ConfigurationError;
    /// How the relay is reached.
    Proxy, "proxy", "proxy", ServiceBusListenerError;
    /// The relay answers, and its clock is the agent's.
    Relay, "relay", "relay", ServiceBusListenerError;
    /// The domain says which hosts are its controllers.
    Srv, "srv", "SRV records", ADConfigurationError;
    /// A domain controller's name leads to an address.
    Dns, "dns", "name", ADConfigurationError;
    /// It takes connections.
    Tcp, "tcp", "TCP", ADUnKnownError;
    /// Its certificate is trusted, for its name, and not about to expire.
    Tls, "tls", "TLS", ADConfigurationError;
    /// The service account can log on.
    Bind, "bind", "logon", ADConfigurationError;
    /// It is a domain controller, and the one that was meant.
    RootDse, "root_dse", "root DSE", ADConfigurationError;
    /// Its clock is the agent's.
    Clock, "clock", "clock", ADConfigurationError;
    /// A unit that accounts are looked for in is there.
    BaseDn, "base_dn", "unit", ADConfigurationError;
    /// Reading what a reset has to know of a unit's users. Usually everybody may.
    ReadAccount, "read_account", "Read account", ADPermissionsError;
    /// Reading in which groups a unit's users are. Usually everybody may.
    ReadTokenGroups, "read_token_groups", "Read tokenGroups", ADPermissionsError;
    /// *Reset Password* on a unit's users.
    ResetPassword, "reset_password", "Reset Password", ADPermissionsError;
    /// *Change Password* on a unit's users.
    ChangePassword, "change_password", "Change Password", ADPermissionsError;
    /// Writing `lockoutTime` of a unit's users.
    WriteLockoutTime, "write_lockout_time", "Write lockoutTime", ADPermissionsError;
    /// Writing `pwdLastSet` of a unit's users.
    WritePwdLastSet, "write_pwd_last_set", "Write pwdLastSet", ADPermissionsError;
    /// *Unexpire Password* on the domain.
    UnexpirePassword, "unexpire_password", "Unexpire Password", ADPermissionsError;
    /// Accounts of administrators, which are never reset.
    ProtectedAccounts, "protected_accounts", "protected accounts", ADPermissionsError;
    /// How soon a password may be changed again.
    MinimumPasswordAge, "minimum_password_age", "minimum age", ADConfigurationError;
    /// Whether the password history can be enforced.
    PolicyHints, "policy_hints", "policy hints", ADConfigurationError;
    /// When accounts are locked.
    LockoutPolicy, "lockout_policy", "lockout policy", ADConfigurationError;
    /// A directory for trials.
    Demo, "demo", "demo directory", ADConfigurationError;
}

impl Check {
    /// Whether it is about a right of the service account.
    #[must_use]
    pub fn is_right(self) -> bool {
        self.event() == Event::ADPermissionsError
    }
}

/// What one check found at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// Where.
    pub target: String,
    /// How it is.
    pub state: PreflightState,
    /// What was found, for people, in one line.
    pub detail: String,
    /// How to mend it, if that is known.
    pub remedy: Option<Mending>,
}

/// How something is mended, here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mending {
    /// What is to be done.
    pub remedy: Remedy,
    /// How, at this place: a command, if there is one.
    pub how: String,
}

impl Finding {
    /// Without a remedy.
    #[must_use]
    pub fn new(check: Check, target: &str, state: PreflightState, detail: impl Into<String>) -> Self {
        // Names from the directory may stand in it.
        let (target, detail) = (target.to_owned(), one_line(&detail.into()).into_owned());
        Self { check, target, state, detail, remedy: None }
    }

    /// As it should be.
    #[must_use]
    pub fn ok(check: Check, target: &str, detail: impl Into<String>) -> Self {
        Self::new(check, target, PreflightState::Ok, detail)
    }

    /// Works, with something to look at.
    #[must_use]
    pub fn warning(check: Check, target: &str, detail: impl Into<String>) -> Self {
        Self::new(check, target, PreflightState::Warning, detail)
    }

    /// Resets will fail.
    #[must_use]
    pub fn failed(check: Check, target: &str, detail: impl Into<String>) -> Self {
        Self::new(check, target, PreflightState::Failed, detail)
    }

    /// With this remedy.
    #[must_use]
    pub fn mended_by(self, remedy: Remedy) -> Self {
        self.mended_with(remedy, remedy.text())
    }

    /// With this remedy, and how it is done here.
    #[must_use]
    pub fn mended_with(self, remedy: Remedy, how: impl Into<String>) -> Self {
        Self { remedy: Some(Mending { remedy, how: one_line(&how.into()).into_owned() }), ..self }
    }
}

impl From<Finding> for PreflightRow {
    fn from(finding: Finding) -> Self {
        let Finding { check, target, state, detail, remedy } = finding;
        let (remedy_code, remedy) = remedy.map(|mending| (mending.remedy.as_str().into(), mending.how)).unzip();
        let (check, remedy) = (check.as_str().into(), remedy.unwrap_or_default().into());
        Self { check, target: target.into(), state, detail: detail.into(), remedy, remedy_code }
    }
}
