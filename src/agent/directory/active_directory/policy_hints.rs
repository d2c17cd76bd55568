//! The control that makes a reset look at the password history, as a change always does: `LDAP_SERVER_POLICY_HINTS`
//! ([MS-ADTS] 3.1.1.3.4.1.27).

use std::fmt;

use ldap3::controls::RawControl;

/// Its number since Windows Server 2012.
const CURRENT: &str = "1.2.840.113556.1.4.2239";
/// Its number before, which later ones know too.
const DEPRECATED: &str = "1.2.840.113556.1.4.2066";

/// `PolicyHintsRequestValue ::= SEQUENCE { Flags INTEGER }`, with flag 1: the history counts.
const CHECK_HISTORY: [u8; 5] = [0x30, 3, 2, 1, 1];

/// The number by which a domain controller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PolicyHints(&'static str);

impl PolicyHints {
    /// The better one of those in `supportedControl`.
    pub(super) fn offered<'a>(controls: impl Iterator<Item = &'a String>) -> Option<Self> {
        let offered: Vec<_> = controls.collect();
        [CURRENT, DEPRECATED].into_iter().find(|oid| offered.iter().any(|control| control == oid)).map(Self)
    }

    /// For the request. It is critical: a controller that does not know it after all writes nothing.
    pub(super) fn control(self) -> RawControl {
        RawControl { ctype: self.0.to_owned(), crit: true, val: Some(CHECK_HISTORY.to_vec()) }
    }
}

impl fmt::Display for PolicyHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why a controller without it writes nothing.
pub(super) fn not_offered(controller: &str) -> String {
    format!(
        "{controller}: it offers neither of the policy hints controls {CURRENT} and {DEPRECATED}, without which a reset does \
         not look at the password history; nothing was changed. Ask without enforce_history, or let the user change the \
         password with the current one"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_number_is_preferred_and_neither_is_none() {
        let offered = |oids: &[&str]| {
            let oids: Vec<_> = oids.iter().map(|&oid| oid.to_owned()).collect();
            PolicyHints::offered(oids.iter()).map(|hints| hints.0)
        };
        assert_eq!(offered(&["1.2.840.113556.1.4.801", DEPRECATED, CURRENT]), Some(CURRENT));
        assert_eq!(offered(&[DEPRECATED]), Some(DEPRECATED));
        assert_eq!(offered(&["1.2.840.113556.1.4.22390"]), None);
    }
}
