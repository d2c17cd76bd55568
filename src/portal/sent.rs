//! The commands that were sent. Until there is an end, the very bytes are kept: a process that dies before its request is
//! answered leaves what can be sent again, and no other bytes may be. The claims are kept for longer, for an outcome that comes
//! late. The password in the bytes is sealed to the agent; nobody here can open it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::error::PortalError;
use crate::clock::UnixTime;
use crate::protocol::command::Command;
use crate::protocol::ids::{CommandId, TenantId};
use crate::protocol::json;
use crate::protocol::limits::{MAX_COMMAND_LIFETIME, OUTCOME_RETENTION};
use crate::storage::{PrivateFile, make_private_folder};

const FOLDER: &str = "commands";
/// Of the files with the claims, and of those with the bytes.
const CLAIMS: &str = "json";
const BYTES: &str = "jws";

/// Of so many commands without an end the bytes are kept; the oldest lose theirs.
const MAX_OPEN: usize = 4096;

/// For each command `commands/{jti}.json`, its claims without `sealed`, and as long as it has no end `commands/{jti}.jws`.
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

    fn file(&self, command: CommandId, kind: &str) -> PrivateFile {
        PrivateFile::new(self.folder.join(format!("{command}.{kind}")))
    }

    /// Keeps a command and its bytes, durably, before it is sent.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn remember(&self, command: &Command, jws: &str) -> Result<(), PortalError> {
        let (claims, bytes) = (self.file(command.jti, CLAIMS), self.file(command.jti, BYTES));
        let without = Command { sealed: None, ..command.clone() };
        claims.replace(&serde_json::to_string(&without).map_err(|e| claims.contents(e))?)?;
        Ok(bytes.replace(jws)?)
    }

    /// The command has an end, or was certainly not taken: its bytes are erased, durably, and never sent again.
    ///
    /// # Errors
    /// If they can't be erased.
    pub fn end(&self, command: CommandId) -> Result<(), PortalError> {
        Ok(self.file(command, BYTES).remove()?)
    }

    /// Finds a command again, for this organisation.
    ///
    /// # Errors
    /// [`PortalError::NotSentHere`], or if the file is damaged.
    pub fn find(&self, tenant: &TenantId, command: CommandId) -> Result<Command, PortalError> {
        let unknown = || PortalError::NotSentHere { tenant: tenant.clone(), command };
        let file = self.file(command, CLAIMS);
        if !file.exists() {
            return Err(unknown());
        }
        let sent: Command = json::read(file.read()?.as_bytes()).map_err(|e| file.contents(e))?;
        if sent.tenant == *tenant && sent.jti == command { Ok(sent) } else { Err(unknown()) }
    }

    /// All that are remembered, oldest first. What can't be read is left out.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn all(&self) -> Result<Vec<Command>, PortalError> {
        Ok(oldest_first(self.paths(CLAIMS)?))
    }

    /// The bytes of a command that has no end.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn bytes(&self, command: CommandId) -> Result<Option<String>, PortalError> {
        let file = self.file(command, BYTES);
        if file.exists() { Ok(Some(file.read()?.to_string())) } else { Ok(None) }
    }

    /// The claims of those without an end, the oldest first. What can't be read is left out.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn unfinished(&self) -> Result<Vec<Command>, PortalError> {
        Ok(oldest_first(self.paths(BYTES)?.into_iter().map(|bytes| bytes.with_extension(CLAIMS))))
    }

    /// Whether a newer command for the same account was sent from here: an older one is not sent again behind it.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub(super) fn is_superseded(&self, command: &Command) -> Result<bool, PortalError> {
        let sent = self.all()?.into_iter();
        let account = |of: &Command| (of.tenant.clone(), of.sub_id.folded());
        let (account_of, this) = (account, account(command));
        let same = |sent: &Command| account_of(sent) == this;
        Ok(sent.filter(same).any(|sent| order(&sent) > order(command)))
    }

    fn paths(&self, kind: &str) -> Result<Vec<PathBuf>, PortalError> {
        let failed = |error| PortalError::Folder { path: self.folder.clone(), error };
        let paths = fs::read_dir(&self.folder).map_err(failed)?.flatten().map(|entry| entry.path());
        Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == kind)).collect())
    }

    /// Removes those whose outcome no relay keeps any more, and the bytes of the oldest if there are too many. What can't be
    /// read is left where it is.
    pub fn forget_old(&self, now: UnixTime) {
        // What stays is tried again next time.
        let remove = |path: &Path| drop(fs::remove_file(path));
        for path in self.paths(CLAIMS).unwrap_or_default() {
            // Written before its `exp`: a young file need not be read.
            if is_young(&path, now) {
                continue;
            }
            if claims(&path).is_some_and(|sent| now >= sent.validity.exp.plus(OUTCOME_RETENTION)) {
                remove(&path.with_extension(BYTES));
                remove(&path);
            }
        }
        let mut open = self.paths(BYTES).unwrap_or_default();
        if let Some(surplus) = open.len().checked_sub(MAX_OPEN) {
            open.sort_by_cached_key(|path| written(path));
            open.iter().take(surplus).for_each(|path| remove(path));
        }
    }
}

fn order(command: &Command) -> (UnixTime, CommandId) {
    (command.validity.iat, command.jti)
}

fn oldest_first(paths: impl IntoIterator<Item = PathBuf>) -> Vec<Command> {
    let mut commands: Vec<Command> = paths.into_iter().filter_map(|path| claims(&path)).collect();
    commands.sort_by_key(order);
    commands
}

fn claims(path: &Path) -> Option<Command> {
    json::read(PrivateFile::new(path).read().ok()?.as_bytes()).ok()
}

fn written(path: &Path) -> Option<UnixTime> {
    let written = fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(UnixTime(i64::try_from(written.as_secs()).ok()?))
}

/// Whether no outcome of a command that was written then can be too old. A clock that was set back makes none young.
fn is_young(path: &Path, now: UnixTime) -> bool {
    let kept = OUTCOME_RETENTION.saturating_sub(MAX_COMMAND_LIFETIME);
    written(path).is_some_and(|written| (written..written.plus(kept)).contains(&now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, System};
    use crate::protocol::command::{Operation, Subject};
    use crate::protocol::ids::AgentId;
    use crate::protocol::jose::Validity;

    fn command(exp: i64) -> Command {
        Command {
            iss: "portal-1".parse().unwrap(),
            aud: AgentId::new(&System, &System),
            tenant: "contoso".parse().unwrap(),
            jti: CommandId::new(&System, &System),
            validity: Validity { iat: UnixTime(exp - 100), exp: UnixTime(exp) },
            sub_id: Subject::upn("jane@corp.example").unwrap(),
            operation: Operation::ResetPassword,
            options: Default::default(),
            sealed: Some("sealed-text".to_owned()),
        }
    }

    #[test]
    fn the_bytes_are_kept_until_there_is_an_end_and_the_claims_until_no_relay_keeps_an_outcome() {
        let dir = tempfile::tempdir().unwrap();
        let sent = SentCommands::open(dir.path()).unwrap();
        let exp = System.now();
        let command = command(exp.0);
        let claims = Command { sealed: None, ..command.clone() };
        sent.remember(&command, "the-very-bytes").unwrap();
        let again = SentCommands::open(dir.path()).unwrap();
        assert_eq!(again.unfinished().unwrap(), std::slice::from_ref(&claims));
        assert_eq!(again.bytes(command.jti).unwrap().as_deref(), Some("the-very-bytes"));
        let on_disk = dir.path().join(FOLDER).join(format!("{}.json", command.jti));
        assert!(!fs::read_to_string(&on_disk).unwrap().contains("sealed"));

        again.end(command.jti).unwrap();
        again.end(command.jti).unwrap();
        assert_eq!((again.unfinished().unwrap(), again.bytes(command.jti).unwrap()), (vec![], None));
        again.forget_old(UnixTime(exp.0 + 604_799));
        assert_eq!(again.find(&command.tenant, command.jti).unwrap(), claims);
        assert!(again.find(&"other".parse().unwrap(), command.jti).is_err());
        again.forget_old(UnixTime(exp.0 + 604_800));
        assert!(matches!(again.find(&command.tenant, command.jti), Err(PortalError::NotSentHere { .. })));
    }

    #[test]
    fn bytes_go_with_the_claims_when_no_end_ever_came_and_the_oldest_go_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let sent = SentCommands::open(dir.path()).unwrap();
        let exp = System.now();
        let command = command(exp.0);
        sent.remember(&command, "the-very-bytes").unwrap();
        for n in 0..MAX_OPEN {
            fs::write(dir.path().join(FOLDER).join(format!("{n}.jws")), "").unwrap();
        }
        let file = fs::File::options().write(true).open(sent.file(command.jti, BYTES).path()).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
        sent.forget_old(exp);
        assert_eq!(sent.bytes(command.jti).unwrap(), None, "the oldest");
        assert_eq!(sent.paths(BYTES).unwrap().len(), MAX_OPEN);
        sent.find(&command.tenant, command.jti).unwrap();

        sent.remember(&command, "the-very-bytes").unwrap();
        sent.forget_old(UnixTime(exp.0 + 604_800));
        assert_eq!(sent.bytes(command.jti).unwrap(), None);
    }

    #[test]
    fn a_command_is_superseded_by_a_newer_one_for_the_same_account() {
        let dir = tempfile::tempdir().unwrap();
        let sent = SentCommands::open(dir.path()).unwrap();
        let (older, newer) = (command(1000), command(1001));
        let other = Command { sub_id: Subject::upn("joe@corp.example").unwrap(), ..command(1002) };
        for command in [&older, &other] {
            sent.remember(command, "bytes").unwrap();
        }
        assert!(!sent.is_superseded(&older).unwrap());
        sent.remember(&newer, "bytes").unwrap();
        assert!(sent.is_superseded(&older).unwrap() && !sent.is_superseded(&newer).unwrap());
    }
}
