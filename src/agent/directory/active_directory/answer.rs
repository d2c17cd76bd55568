//! What a domain controller's answer means.
//!
//! Active Directory puts a Windows error code before the diagnostic message, as eight hex digits, and that code says
//! more than the LDAP result: a weak password is `0000052D` with result 53 from Windows and with 19 from Samba. So the
//! code is looked at first, and then the result. A modify is one transaction ([MS-ADTS] 3.1.1.5.3): whatever the
//! refusal, nothing was changed, and what is not known is `internal`: not done, may be tried again.

use ldap3::LdapResult;

use super::right::Right;
use crate::agent::directory::DirectoryError;
use crate::protocol::command::Options;
use crate::protocol::outcome::Code;
use crate::protocol::untrusted::Untrusted;

/// `ERROR_ACCESS_DENIED`: no right to reset the password.
const ACCESS_DENIED: u32 = 0x5;
/// `ERROR_INVALID_PASSWORD`: the current password is wrong.
const INVALID_PASSWORD: u32 = 0x56;
/// `ERROR_ACCOUNT_LOCKED_OUT`: a password can't be changed while the account is locked, whether the current one is right
/// or not.
const ACCOUNT_LOCKED_OUT: u32 = 0x775;
/// `ERROR_PASSWORD_RESTRICTION`: length, complexity, history, age, or a password filter.
const PASSWORD_RESTRICTION: u32 = 0x52d;
/// `ERROR_DS_INSUFF_ACCESS_RIGHTS`: no right to write an attribute.
const INSUFFICIENT_ACCESS: u32 = 0x2098;

/// LDAP results (RFC 4511 §A.2), as far as one is more than a number here.
const SUCCESS: u32 = 0;
const SIZE_LIMIT_EXCEEDED: u32 = 4;
pub(super) const REFERRAL: u32 = 10;
const UNAVAILABLE_CRITICAL_EXTENSION: u32 = 12;
pub(super) const NO_SUCH_OBJECT: u32 = 32;
const INVALID_DN_SYNTAX: u32 = 34;
const INVALID_CREDENTIALS: u32 = 49;
const INSUFFICIENT_ACCESS_RIGHTS: u32 = 50;

/// Whether an answer to a question is about what was asked: found or not, no such place, no right to read. Any other is
/// about the controller alone (busy, going down, out of order, another's namespace), and another one may answer.
pub(super) fn is_about_the_question(result: &LdapResult) -> bool {
    matches!(result.rc, SUCCESS | SIZE_LIMIT_EXCEEDED | NO_SUCH_OBJECT | INVALID_DN_SYNTAX | INSUFFICIENT_ACCESS_RIGHTS)
}

/// The same of a logon: whether it is about the account, or its password.
pub(super) fn is_about_the_account(result: &LdapResult) -> bool {
    matches!(result.rc, SUCCESS | INVALID_CREDENTIALS)
}

/// How much of a diagnostic message is passed on, in characters.
const DIAGNOSTIC_CHARS: usize = 300;

/// What a domain controller was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Find,
    Reset(Options),
    Change,
    Unlock,
}

impl Asked {
    /// For a sentence.
    pub(super) fn doing(self) -> &'static str {
        match self {
            Self::Find => "find the account",
            Self::Reset(_) => "reset the password",
            Self::Change => "change the password",
            Self::Unlock => "unlock the account",
        }
    }

    /// The rights that it needs on the account.
    fn needs(self) -> Vec<Right> {
        match self {
            Self::Find => Vec::new(),
            Self::Reset(options) => {
                let unlock = options.unlock.then_some(Right::WriteLockoutTime);
                let force = options.force_change_at_next_logon.then_some(Right::WritePwdLastSet);
                [Some(Right::ResetPassword), unlock, force].into_iter().flatten().collect()
            }
            Self::Change => vec![Right::ChangePassword],
            Self::Unlock => vec![Right::WriteLockoutTime],
        }
    }

    /// Those of them that this answer may be about: Windows says whether it is an extended right or an attribute that may
    /// not be written. None, if it is about no right.
    pub(super) fn rights_in_doubt(self, result: &LdapResult) -> Vec<Right> {
        if code(result) != Code::InsufficientRights {
            return Vec::new();
        }
        let mut rights = self.needs();
        match windows_error(&result.text) {
            Some(ACCESS_DENIED) => rights.retain(|right| right.is_extended()),
            Some(INSUFFICIENT_ACCESS) if rights.iter().any(|right| !right.is_extended()) => {
                rights.retain(|right| !right.is_extended());
            }
            _ => {}
        }
        rights
    }

    /// For what the policy may refuse the password.
    fn policy(self) -> &'static str {
        match self {
            // Whoever resets is not asked for the age of what he replaces ([MS-SAMR] 3.1.1.7.1).
            Self::Reset(options) if options.enforce_history => {
                "for its length or complexity, because the user's name is in it, because it is one of the last ones, or by a \
                 password filter of the domain (forbidden words)"
            }
            Self::Reset(_) => {
                "for its length or complexity, because the user's name is in it, or by a password filter of the domain \
                 (forbidden words)"
            }
            Self::Change | Self::Find | Self::Unlock => {
                "for its length or complexity, because the user's name is in it, because it is one of the last ones, by a \
                 password filter of the domain (forbidden words), or because the current one is not old enough to be changed"
            }
        }
    }
}

/// The error for an answer that is not success. `lacking` are the rights that were found to be missing, if that was looked at. A
/// controller that can't do it now has certainly not done it, and another may.
pub(super) fn refusal(result: &LdapResult, controller: &str, asked: Asked, lacking: &[Right]) -> DirectoryError {
    let (code, doing) = (code(result), asked.doing());
    let said = diagnostic(result);
    let detail = match code {
        Code::PasswordPolicy => {
            format!("{controller}: the account's password policy refuses the new password, {} ({said})", asked.policy())
        }
        Code::IncorrectPassword => format!("{controller}: the current password is wrong"),
        Code::AccountLocked => {
            format!("{controller}: the account is locked, so it did not look at the current password; unlock it first")
        }
        Code::UserNotFound => format!("{controller}: the account is not there any more"),
        Code::InsufficientRights => {
            let right = missing(lacking, &asked.rights_in_doubt(result));
            format!(
                "{controller}: the agent's service account may not {doing}: {right}; nothing was changed, and the same is \
                 refused until it has it ({said})"
            )
        }
        Code::DirectoryUnavailable if result.rc == REFERRAL => {
            format!("{controller}: it can't {doing} itself; name a writable domain controller of the account's domain")
        }
        _ => format!("{controller}: it did not {doing} ({said})"),
    };
    match code {
        Code::DirectoryUnavailable => DirectoryError::Unavailable(detail),
        code => DirectoryError::Refused { code, detail },
    }
}

/// What is missing, by the names that the check and the administrators' tools have for it.
fn missing(lacking: &[Right], in_doubt: &[Right]) -> String {
    let names = |rights: &[Right], between: &str| {
        rights.iter().map(|right| format!("{:?}", right.check().title())).collect::<Vec<_>>().join(between)
    };
    match (lacking, in_doubt) {
        ([], []) => "a right on it is missing".to_owned(),
        ([], [_, _, ..]) => format!("one of the rights {} is missing on this account", names(in_doubt, ", ")),
        ([one], _) | ([], [one]) => format!("the right {} is missing on this account", names(&[*one], "")),
        (several, _) => format!("the rights {} are missing on this account", names(several, " and ")),
    }
}

fn code(result: &LdapResult) -> Code {
    match (windows_error(&result.text), result.rc) {
        (Some(PASSWORD_RESTRICTION), _) => Code::PasswordPolicy,
        (Some(INVALID_PASSWORD), _) => Code::IncorrectPassword,
        (Some(ACCOUNT_LOCKED_OUT), _) => Code::AccountLocked,
        (Some(ACCESS_DENIED | INSUFFICIENT_ACCESS), _) | (_, 50) => Code::InsufficientRights,
        // Samba's part that judges rights: a change without the right to it is result 19 there.
        _ if result.text.starts_with("error in module acl:") => Code::InsufficientRights,
        (_, 32) => Code::UserNotFound,
        // The password is the only value we send that can violate anything.
        (_, 19) => Code::PasswordPolicy,
        // The policy hints are the only control we send.
        (_, UNAVAILABLE_CRITICAL_EXTENSION) => Code::HistoryUnavailable,
        // A read-only controller, another domain; time limit, busy, unavailable.
        (_, REFERRAL | 3 | 51 | 52) => Code::DirectoryUnavailable,
        _ => Code::Internal,
    }
}

/// The Windows error code before the diagnostic message.
fn windows_error(text: &str) -> Option<u32> {
    let digits = text.get(..8).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    text.get(8..)?.starts_with(':').then(|| u32::from_str_radix(digits, 16).ok())?
}

/// The result code and, quoted, the message, without the zero that Windows ends it with.
pub(super) fn diagnostic(result: &LdapResult) -> String {
    let text: String = result.text.trim_end_matches(['\0', '\n', '\r', ' ']).chars().take(DIAGNOSTIC_CHARS).collect();
    format!("LDAP result {}: {}", result.rc, Untrusted::from(text).quoted())
}

/// The `data` code of a refused bind, such as `52e`, in lower case:
/// `80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data 52e, v4563`.
pub(super) fn bind_data(result: &LdapResult) -> Option<String> {
    let (_, rest) = result.text.split_once(", data ")?;
    let digits = rest.split(',').next()?.trim();
    (result.rc == INVALID_CREDENTIALS).then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rc: u32, text: &str) -> LdapResult {
        LdapResult { rc, matched: String::new(), text: text.to_owned(), refs: vec![], ctrls: vec![] }
    }

    const RESET: Asked = Asked::Reset(PLAIN);
    const PLAIN: Options = Options { unlock: false, force_change_at_next_logon: false, enforce_history: false };

    #[track_caller]
    fn said(rc: u32, text: &str, asked: Asked, lacking: &[Right]) -> String {
        match refusal(&answer(rc, text), "dc1", asked, lacking) {
            DirectoryError::Refused { detail, .. } => detail,
            other => panic!("a refusal was expected: {other}"),
        }
    }

    #[test]
    fn the_policy_is_blamed_only_for_what_it_looks_at() {
        let policy = |asked| said(19, "0000052D: too short", asked, &[]);
        let enforced = Asked::Reset(Options { enforce_history: true, ..PLAIN });
        for (asked, history, age) in [(RESET, false, false), (enforced, true, false), (Asked::Change, true, true)] {
            let said = policy(asked);
            assert_eq!(said.contains("one of the last ones"), history, "{said}");
            assert_eq!(said.contains("old enough"), age, "{said}");
            assert!(["length", "complexity", "user's name", "filter"].iter().all(|why| said.contains(why)), "{said}");
        }
    }

    #[test]
    fn a_missing_right_is_named_by_what_was_found_or_else_by_the_error() {
        let all = Asked::Reset(Options { unlock: true, force_change_at_next_logon: true, ..PLAIN });
        let unlock = Asked::Reset(Options { unlock: true, ..PLAIN });
        let (extended, attribute) = ("00000005: SecErr: DSID-031A1190", "00002098: SecErr: DSID-03150E49");
        for (text, asked, lacking, named) in [
            (attribute, unlock, &[Right::WriteLockoutTime][..], "the right \"Write lockoutTime\" is missing"),
            (
                "",
                all,
                &[Right::ResetPassword, Right::WritePwdLastSet],
                "\"Reset Password\" and \"Write pwdLastSet\" are",
            ),
            // What could not be looked at.
            (extended, all, &[], "the right \"Reset Password\" is missing"),
            (attribute, unlock, &[], "the right \"Write lockoutTime\" is missing"),
            (attribute, all, &[], "one of the rights \"Write lockoutTime\", \"Write pwdLastSet\" is missing"),
            ("error in module acl: no", unlock, &[], "one of the rights \"Reset Password\", \"Write lockoutTime\" is"),
            (attribute, RESET, &[], "the right \"Reset Password\" is missing"),
            (extended, Asked::Change, &[], "the right \"Change Password\" is missing"),
            (attribute, Asked::Unlock, &[], "the right \"Write lockoutTime\" is missing"),
            (attribute, Asked::Find, &[], "a right on it is missing"),
        ] {
            let said = said(50, text, asked, lacking);
            assert!(said.contains(named) && said.contains("refused until it has it"), "{said}");
        }
    }

    #[test]
    fn windows_and_samba_say_the_same_in_different_words() {
        for (rc, text, expected) in [
            (53, "0000052D: SvcErr: DSID-031A1254, problem 5003 (WILL_NOT_PERFORM), data 0\n\0", Code::PasswordPolicy),
            (19, "0000052D: Constraint violation - check_password_restrictions: too short", Code::PasswordPolicy),
            (19, "", Code::PasswordPolicy),
            (19, "00000056: AtrErr: DSID-03190F80, #1:\n\t0: 00000056: DSID-03190F80", Code::IncorrectPassword),
            (19, "00000775: Password change not permitted, account locked out!", Code::AccountLocked),
            (50, "00000005: SecErr: DSID-031A1190, problem 4003 (INSUFF_ACCESS_RIGHTS)", Code::InsufficientRights),
            (50, "00002098: SecErr: DSID-03150E49, problem 4003", Code::InsufficientRights),
            (50, "error in module acl: insufficient access rights during LDB_MODIFY (50)", Code::InsufficientRights),
            (19, "error in module acl: Constraint violation during LDB_MODIFY (19)", Code::InsufficientRights),
            (53, "00000005: SvcErr: DSID-031A1190", Code::InsufficientRights),
            (32, "0000208D: NameErr: DSID-0310020A, problem 2001 (NO_OBJECT)", Code::UserNotFound),
            (10, "0000202B: RefErr: DSID-03100742, data 0, 1 access points", Code::DirectoryUnavailable),
            (12, "", Code::HistoryUnavailable),
            (51, "", Code::DirectoryUnavailable),
            (52, "000020E1: SvcErr: DSID-00000000, problem 5002 (UNAVAILABLE)", Code::DirectoryUnavailable),
            (53, "0000001F: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM)", Code::Internal),
            (1, "000004DC: LdapErr: DSID-0C0909A2, comment: a successful bind must be completed", Code::Internal),
            (80, "0000052Dx", Code::Internal),
        ] {
            let (code, detail) = match refusal(&answer(rc, text), "dc1", RESET, &[]) {
                DirectoryError::Refused { code, detail } => (code, detail),
                DirectoryError::Unavailable(detail) => (Code::DirectoryUnavailable, detail),
                other => panic!("{rc} {text}: it was answered, so nothing is uncertain: {other}"),
            };
            assert_eq!(code, expected, "{rc} {text}");
            assert!(detail.starts_with("dc1: ") && !detail.contains(['\n', '\0']), "{detail}");
        }
    }

    #[test]
    fn an_answer_is_about_the_question_or_about_the_controller_alone() {
        let about = |rc| is_about_the_question(&answer(rc, ""));
        assert!([0, 4, 32, 34, 50].into_iter().all(about));
        assert!(![1, 2, 3, 7, 8, 10, 11, 12, 13, 18, 21, 36, 49, 51, 52, 53, 54, 80, 4711].into_iter().any(about));
        let about = |rc| is_about_the_account(&answer(rc, ""));
        assert!(about(0) && about(49));
        assert!(![1, 2, 3, 7, 8, 10, 11, 32, 50, 51, 52, 53, 80].into_iter().any(about));
    }

    #[test]
    fn a_refused_bind_says_why() {
        let text = "80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data 52E, v4563\0";
        assert_eq!(bind_data(&answer(49, text)).as_deref(), Some("52e"));
        assert_eq!(bind_data(&answer(49, "no reason")), None);
        assert_eq!(bind_data(&answer(50, text)), None);
    }
}
