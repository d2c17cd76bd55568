//! The sealed password: a JWE that only the agent opens, tied to its command.
//!
//! The plaintext is JSON, followed by spaces up to a multiple of 512 bytes, so that its length tells nothing.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::command::{Command, Operation, Subject};
use super::ids::{AgentId, CommandId, PortalId};
use super::jose::{JoseError, PublicKey, SealingKey, seal};
use super::json;
use super::limits::SEALED_BLOCK_BYTES;
use super::password::Password;
use crate::clock::Random;

/// The passwords of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The new password.
    pub new_password: Password,
    /// The current one, for `change_password` only.
    pub current_password: Option<Password>,
}

/// What stands in the JWE: the passwords, and copies of the command's claims, so that it can't be moved to another.
#[derive(Serialize)]
struct Plaintext<'a> {
    new_password: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_password: Option<&'a str>,
    jti: CommandId,
    iss: &'a PortalId,
    aud: AgentId,
    sub_id: &'a Subject,
    operation: Operation,
}

#[derive(Deserialize)]
struct Opened {
    new_password: Password,
    current_password: Option<Password>,
    jti: CommandId,
    iss: PortalId,
    aud: AgentId,
    sub_id: Subject,
    operation: Operation,
}

/// Seals `secrets` for `command` (whose own `sealed` is not looked at) to the agent's key.
///
/// # Errors
/// If the key is no sealing key.
pub fn seal_for(
    command: &Command,
    secrets: &Secrets,
    recipient: &PublicKey,
    random: &dyn Random,
) -> Result<String, JoseError> {
    let plaintext = Plaintext {
        new_password: secrets.new_password.expose(),
        current_password: secrets.current_password.as_ref().map(Password::expose),
        jti: command.jti,
        iss: &command.iss,
        aud: command.aud,
        sub_id: &command.sub_id,
        operation: command.operation,
    };
    // Written in one piece: a growing buffer would leave copies behind that nobody overwrites.
    let mut buffer = Zeroizing::new(Vec::with_capacity(super::limits::MAX_COMMAND_BYTES));
    serde_json::to_writer(&mut *buffer, &plaintext).map_err(|_| JoseError::Malformed("it can't be written as JSON"))?;
    let padded = buffer.len().next_multiple_of(SEALED_BLOCK_BYTES);
    buffer.resize(padded, b' ');
    seal(&buffer, recipient, random)
}

/// Opens the sealed password of `command`, and compares what is inside with the command.
///
/// # Errors
/// If there is none, it can't be opened, or it belongs to another command.
pub fn open_for(command: &Command, key: &SealingKey) -> Result<Secrets, JoseError> {
    let plaintext = key.open(command.sealed.as_deref().ok_or(JoseError::mismatch("sealed", "it is missing"))?)?;
    let opened: Opened = json::read(&plaintext)
        // What is expected is said as a whole: nothing of it is shown to anybody.
        .map_err(|_| {
            JoseError::Malformed("what is sealed is not the JSON object of a password of 1 to 256 characters")
        })?;
    for (fits, copy) in [
        (opened.jti == command.jti, "jti"),
        (opened.iss == command.iss, "iss"),
        (opened.aud == command.aud, "aud"),
        (opened.sub_id == command.sub_id, "sub_id"),
        (opened.operation == command.operation, "operation"),
    ] {
        if !fits {
            return Err(JoseError::mismatch("sealed", format!("the copy of {copy} in it is not the command's {copy}")));
        }
    }
    match (opened.current_password.is_some(), command.operation == Operation::ChangePassword) {
        (false, true) => Err(JoseError::Malformed("there is no current_password in it, which change_password needs")),
        (true, false) => Err(JoseError::Malformed("there is a current_password in it, which is for change_password")),
        _ => Ok(Secrets { new_password: opened.new_password, current_password: opened.current_password }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{System, UnixTime};
    use crate::protocol::jose::Validity;

    fn command() -> Command {
        Command {
            iss: "portal-1".parse().unwrap(),
            aud: AgentId::new(&System, &System),
            tenant: "contoso".parse().unwrap(),
            jti: CommandId::new(&System, &System),
            validity: Validity { iat: UnixTime(1), exp: UnixTime(2) },
            sub_id: Subject::upn("jane@corp.example").unwrap(),
            operation: Operation::ResetPassword,
            options: Default::default(),
            sealed: None,
        }
    }

    fn secrets(password: &str) -> Secrets {
        Secrets { new_password: Password::new(password.into()).unwrap(), current_password: None }
    }

    #[test]
    fn it_opens_for_its_own_command_and_for_no_other() {
        let key = SealingKey::generate().unwrap();
        let mut command = command();
        command.sealed = Some(seal_for(&command, &secrets("pässwörd \u{1f600}"), key.public(), &System).unwrap());
        assert_eq!(open_for(&command, &key).unwrap(), secrets("pässwörd \u{1f600}"));

        let moved = |change: fn(&mut Command)| {
            let mut other = command.clone();
            change(&mut other);
            open_for(&other, &key)
        };
        let refused = |copy: &str, moved: Result<Secrets, JoseError>| {
            let text = moved.unwrap_err().to_string();
            assert!(text.starts_with("sealed: ") && text.contains(copy), "{text}");
        };
        refused("the copy of jti", moved(|c| c.jti = CommandId::new(&System, &System)));
        refused("the copy of aud", moved(|c| c.aud = AgentId::new(&System, &System)));
        refused("the copy of iss", moved(|c| c.iss = "portal-2".parse().unwrap()));
        refused("the copy of sub_id", moved(|c| c.sub_id = Subject::upn("joe@corp.example").unwrap()));
        refused("the copy of operation", moved(|c| c.operation = Operation::ChangePassword));
        refused("it is missing", moved(|c| c.sealed = None));
        assert!(open_for(&command, &SealingKey::generate().unwrap()).is_err(), "with another's key");
    }

    #[test]
    fn a_change_has_the_current_password_and_nothing_else_has_it() {
        let key = SealingKey::generate().unwrap();
        let current = Some(Password::new("Old-Passw0rd".into()).unwrap());
        for (operation, current_password, error) in [
            (Operation::ChangePassword, current.clone(), None),
            (Operation::ChangePassword, None, Some("no current_password")),
            (Operation::ResetPassword, current, Some("is for change_password")),
        ] {
            let mut command = Command { operation, ..command() };
            let secrets = Secrets { current_password, ..secrets("New-Passw0rd") };
            command.sealed = Some(seal_for(&command, &secrets, key.public(), &System).unwrap());
            match (open_for(&command, &key), error) {
                (Ok(opened), None) => assert_eq!(opened, secrets),
                (Err(refused), Some(error)) => assert!(refused.to_string().contains(error), "{refused}"),
                (other, _) => panic!("{operation:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn its_length_tells_nothing_of_the_passwords() {
        let key = SealingKey::generate().unwrap();
        let command = command();
        let length = |p: &str| seal_for(&command, &secrets(p), key.public(), &System).unwrap().len();
        assert_eq!(length("x"), length(&"x".repeat(128)));
    }
}
