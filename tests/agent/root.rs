//! Root in the folder of the service's user.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use crate::support::agent::{Agent, demo};
use crate::support::relay::{Relay, tenant};

const JANE: &str = "jane@corp.example";
/// `nobody`, wherever there are tests.
const NOBODY: u32 = 65534;

fn owners(folder: &Path) -> BTreeMap<String, u32> {
    let entry = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().uid());
    fs::read_dir(folder).unwrap().map(|file| entry(file.unwrap())).collect()
}

#[tokio::test]
async fn root_leaves_no_file_that_the_services_user_could_not_read() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = Agent::new(&relay);
    agent.configure(&demo(&agent.home(), &[JANE], 0));
    let code = portal.portal.invite(&tenant(), true).await.unwrap().to_text().unwrap();
    assert_eq!(agent.enroll(&code).await.status, 0);
    for file in fs::read_dir(agent.home()).unwrap() {
        chown(file.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(agent.home(), Some(NOBODY), Some(NOBODY)).unwrap();
    let before = owners(&agent.home());

    for arguments in [
        &["enroll", &code][..],
        &["trust", &code],
        &["trust", "--remove", "portal-1"],
        &["rotate-keys"],
        &["setup", "--no-questions"],
        &["run"],
    ] {
        let said = agent.cli(arguments).await;
        assert_eq!((said.status, said.err.lines().count()), (1, 1), "{arguments:?}: {said:?}");
        assert!(said.err.contains("belongs to the user nobody") && said.err.contains("runuser -u nobody"), "{said:?}");
    }
    for arguments in [&["status"][..], &["trust", "--list"], &["events"], &["support-bundle", "-"]] {
        let said = agent.cli(arguments).await;
        assert_eq!(said.status, 0, "{arguments:?}: {said:?}");
    }
    // The demo directory makes its file when it is opened; Active Directory has none.
    let said = agent.cli(&["check"]).await;
    assert!(said.status == 3 && said.err.contains("belongs to the user nobody"), "{said:?}");
    assert_eq!(owners(&agent.home()), before);
}
