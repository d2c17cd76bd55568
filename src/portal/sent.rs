//! The commands that were sent: what is needed to verify an outcome that comes late. No password, nothing sealed.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::PortalError;
use crate::clock::UnixTime;
use crate::protocol::command::Command;
use crate::protocol::ids::{CommandId, TenantId};
use crate::protocol::json;
use crate::protocol::limits::OUTCOME_RETENTION;
use crate::storage::{PrivateFile, make_private_folder};

const FOLDER: &str = "commands";

/// One file for each command, `commands/{jti}.json`: its claims without `sealed`.
#[derive(Clone, Debug)]
pub struct SentCommands {
    folder: PathBuf,
}

impl SentCommands {
    /// Opens, or makes, the folder in `home`.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn open(home: &Path) -> Result<Self, PortalError> {
        let folder = home.join(FOLDER);
        make_private_folder(&folder)?;
        Ok(Self { folder })
    }

    fn file(&self, command: CommandId) -> PrivateFile {
        PrivateFile::new(self.folder.join(format!("{command}.json")))
    }

    /// Remembers a command, durably, before it is sent.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn remember(&self, command: &Command) -> Result<(), PortalError> {
        let file = self.file(command.jti);
        let claims = Command { sealed: None, ..command.clone() };
        Ok(file.replace(&serde_json::to_string(&claims).map_err(|e| file.contents(e))?)?)
    }

    /// Finds it again, for this organisation.
    ///
    /// # Errors
    /// [`PortalError::NotSentHere`], or if the file is damaged.
    pub fn find(&self, tenant: &TenantId, command: CommandId) -> Result<Command, PortalError> {
        let unknown = || PortalError::NotSentHere { tenant: tenant.clone(), command };
        let file = self.file(command);
        if !file.exists() {
            return Err(unknown());
        }
        let sent: Command = json::read(file.read()?.as_bytes()).map_err(|e| file.contents(e))?;
        if sent.tenant == *tenant && sent.jti == command { Ok(sent) } else { Err(unknown()) }
    }

    /// All that are remembered, oldest first. What can't be read is left out.
    #[must_use]
    pub fn all(&self) -> Vec<Command> {
        let paths = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let texts = paths.filter_map(|path| PrivateFile::new(&path).read().ok());
        let mut commands: Vec<Command> = texts.filter_map(|text| json::read(text.as_bytes()).ok()).collect();
        commands.sort_by_key(|command| (command.validity.iat, command.jti));
        commands
    }

    /// Removes those whose outcome no relay keeps any more. What can't be read is left where it is.
    pub fn forget_old(&self, now: UnixTime) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let sent = PrivateFile::new(&path).read().ok().and_then(|text| json::read::<Command>(text.as_bytes()).ok());
            if sent.is_some_and(|command| now >= command.validity.exp.plus(OUTCOME_RETENTION)) {
                // One that stays is tried again next time.
                let _ = fs::remove_file(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use crate::protocol::command::{Operation, Subject};
    use crate::protocol::ids::AgentId;
    use crate::protocol::jose::Validity;

    #[test]
    fn a_command_is_found_without_its_password_until_no_relay_keeps_its_outcome() {
        let dir = tempfile::tempdir().unwrap();
        let sent = SentCommands::open(dir.path()).unwrap();
        let command = Command {
            iss: "portal-1".parse().unwrap(),
            aud: AgentId::new(&System, &System),
            tenant: "contoso".parse().unwrap(),
            jti: CommandId::new(&System, &System),
            validity: Validity { iat: UnixTime(0), exp: UnixTime(100) },
            sub_id: Subject::upn("jane@corp.example").unwrap(),
            operation: Operation::ResetPassword,
            options: Default::default(),
            sealed: Some("sealed-text".to_owned()),
        };
        sent.remember(&command).unwrap();
        let on_disk = fs::read_to_string(dir.path().join(FOLDER).join(format!("{}.json", command.jti))).unwrap();
        assert!(!on_disk.contains("sealed"), "{on_disk}");
        sent.forget_old(UnixTime(100 + 604_799));
        assert_eq!(sent.find(&command.tenant, command.jti).unwrap(), Command { sealed: None, ..command.clone() });
        assert!(sent.find(&"other".parse().unwrap(), command.jti).is_err());
        sent.forget_old(UnixTime(100 + 604_800));
        assert!(matches!(sent.find(&command.tenant, command.jti), Err(PortalError::NotSentHere { .. })));
    }
}
