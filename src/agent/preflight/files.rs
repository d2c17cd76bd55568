//! What only the agent may read.

use crate::agent::counted;
use crate::agent::directory::{Check, Finding};
use crate::agent::home::Home;
use crate::protocol::remedy::Remedy;
use crate::storage::FileError;

/// A finding for each file that others may read or that can't be looked at, or one for all. Files that are not there yet
/// are no finding: an agent that is not enrolled has none.
pub(super) fn look(home: &Home) -> Vec<Finding> {
    let files: Vec<_> = home.private_files().into_iter().filter(|file| file.exists()).collect();
    let faults: Vec<_> = files.iter().filter_map(|file| file.check().err()).map(fault).collect();
    if !faults.is_empty() || files.is_empty() {
        return faults;
    }
    let detail = format!("{}, which nobody else may read", counted(files.len(), "file"));
    vec![Finding::ok(Check::PrivateFile, &home.folder().display().to_string(), detail)]
}

fn fault(error: FileError) -> Finding {
    let detail = error.to_string();
    match error {
        FileError::Mode { path, mode } => {
            let path = path.display().to_string();
            Finding::failed(Check::PrivateFile, &path, format!("others may read or write this file (mode {mode:o})"))
                .mended_with(Remedy::RestrictFile, format!("chmod 600 {path}"))
        }
        FileError::Io { path, .. }
        | FileError::Contents { path, .. }
        | FileError::Newer { path, .. }
        | FileError::ForeignFile { path, .. }
        | FileError::ForeignFolder { path, .. }
        | FileError::ForeignLink { path, .. }
        | FileError::OpenFile { path, .. }
        | FileError::OpenFolder { path, .. }
        | FileError::Temporary { path, .. } => Finding::failed(Check::PrivateFile, &path.display().to_string(), detail),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::agent::testing::Enrolled;
    use crate::protocol::api::PreflightState::{Failed, Ok as Green};

    #[tokio::test]
    async fn a_key_that_others_may_read_is_named_with_the_command_that_mends_it() {
        let agent = Enrolled::new().await;
        let states: Vec<_> = look(&agent.home()).into_iter().map(|finding| finding.state).collect();
        assert_eq!(states, [Green]);
        let key = agent.dir.path().join("sealing-key.jwk");
        set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        let found = look(&agent.home());
        assert_eq!((found.len(), found[0].state), (1, Failed));
        let mending = found[0].remedy.clone().unwrap();
        assert_eq!((mending.remedy, mending.how), (Remedy::RestrictFile, format!("chmod 600 {}", key.display())));
    }

    #[test]
    fn an_agent_that_is_not_enrolled_has_no_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(&Home::new(dir.path())), []);
    }
}
