//! What a domain controller's answer means.
//!
//! Active Directory puts a Windows error code before the diagnostic message, as eight hex digits, and that code says
//! more than the LDAP result: a weak password is `0000052D` with result 53 from Windows and with 19 from Samba. So the
//! code is looked at first, and then the result. A modify is one transaction ([MS-ADTS] 3.1.1.5.3): whatever the
//! refusal, nothing was changed, and what is not known is `internal`: not done, may be tried again.

use ldap3::LdapResult;

use crate::agent::directory::DirectoryError;
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

/// The error for an answer that is not success. `doing` is what was asked: "reset the password". A controller that can't do
/// it now has certainly not done it, and another may.
pub(super) fn refusal(result: &LdapResult, controller: &str, doing: &str) -> DirectoryError {
    let code = code(result);
    let said = diagnostic(result);
    let detail = match code {
        Code::PasswordPolicy => format!(
            "{controller}: the domain's policy refuses the password, for its length, complexity or history, or because the \
             last one is not old enough to be changed ({said})"
        ),
        Code::IncorrectPassword => format!("{controller}: the current password is wrong"),
        Code::AccountLocked => {
            format!("{controller}: the account is locked, so it did not look at the current password; unlock it first")
        }
        Code::UserNotFound => format!("{controller}: the account is not there any more"),
        Code::InsufficientRights => {
            format!("{controller}: the agent's service account may not {doing} of this account ({said})")
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
            let (code, detail) = match refusal(&answer(rc, text), "dc1", "reset the password") {
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
