//! A file of the agent's folder that is broken: one sentence that names it and says what to do, and it is left as it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use writeback_relay::agent::home::Home;
use writeback_relay::storage::PrivateFile;

use crate::support::agent::{Agent, demo};
use crate::support::relay::{Relay, tenant};

/// How a file is broken.
#[derive(Clone, Copy, Debug)]
enum Broken {
    Gone,
    Empty,
    Cut,
    Nonsense,
    Open,
    Newer,
}

impl Broken {
    fn apply(self, path: &Path) {
        let whole = fs::read(path).unwrap_or_default();
        match self {
            Self::Gone => fs::remove_file(path).unwrap(),
            Self::Empty => fs::write(path, b"").unwrap(),
            Self::Cut => fs::write(path, &whole[..whole.len() / 2]).unwrap(),
            Self::Nonsense => fs::write(path, b"{\"this is\": \"something else\"}").unwrap(),
            Self::Open => fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap(),
            Self::Newer => PrivateFile::new(path).replace("{\"format\": 99, \"what\": []}").unwrap(),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn whatever_file_is_broken_it_is_named_with_what_to_do_and_left_as_it_is() {
    use Broken::{Cut, Empty, Gone, Newer, Nonsense, Open};
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = Agent::new(&relay);
    agent.configure(&demo(&agent.home(), &["jane@corp.example"], 0));
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.enroll(&code.to_text().unwrap()).await.status, 0);
    // All the files that a folder may have.
    PrivateFile::new(agent.home().join("instance.json")).replace("\"01a205a4-e253-7ab6-a469-182623b91b44\"").unwrap();
    let whole = tempfile::tempdir().unwrap();
    let whole = whole.path().join("home");
    copy(&agent.home(), &whole);
    let keys_json = agent.home().join("keys.json");

    for (name, how, advice) in [
        ("identity.json", Gone, "writeback-agent setup"),
        ("identity.json", Empty, "restore it from a copy"),
        ("identity.json", Cut, "restore it from a copy"),
        ("identity.json", Nonsense, "restore it from a copy"),
        ("identity.json", Open, "chmod 600"),
        ("identity.json", Newer, "install that version"),
        ("signing-key.jwk", Gone, "No such file"),
        ("signing-key.jwk", Empty, "restore it from a copy"),
        ("signing-key.jwk", Cut, "restore it from a copy"),
        ("signing-key.jwk", Nonsense, "restore it from a copy"),
        ("signing-key.jwk", Open, "chmod 600"),
        ("sealing-key.jwk", Gone, "No such file"),
        ("sealing-key.jwk", Empty, "restore it from a copy"),
        ("sealing-key.jwk", Nonsense, "restore it from a copy"),
        ("sealing-key.jwk", Open, "chmod 600"),
        ("keys.json", Empty, "restore it from a copy"),
        ("keys.json", Nonsense, "restore it from a copy"),
        ("keys.json", Newer, "install that version"),
        ("instance.json", Empty, "restore it from a copy"),
        ("instance.json", Nonsense, "restore it from a copy"),
        ("instance.json", Open, "chmod 600"),
        ("instance.json", Newer, "install that version"),
        ("journal.redb", Gone, "does not exist"),
        ("journal.redb", Empty, "restore it from a copy"),
        ("journal.redb", Cut, "restore it from a copy"),
        ("journal.redb", Nonsense, "restore it from a copy"),
        ("agent.toml", Nonsense, "expected"),
        ("agent.toml", Gone, "[directory] is missing"),
    ] {
        copy(&whole, &agent.home());
        let path = agent.home().join(name);
        if name == "keys.json" {
            PrivateFile::new(&keys_json).replace("{}").unwrap();
        }
        how.apply(&path);
        let (before, mode) = (fs::read(&path).ok(), fs::metadata(&path).ok().map(|meta| meta.permissions().mode()));
        let said = agent.cli(&["run"]).await;
        let sentences: Vec<_> = said.err.lines().filter(|line| line.starts_with("writeback-agent: ")).collect();
        assert!(said.status == 1 && sentences.len() == 1, "{name} {how:?}: {said:?}");
        // Of an identity that is gone, the folder is what there is.
        let named = sentences[0].contains(name) || sentences[0].contains(agent.home().to_str().unwrap());
        assert!(named && sentences[0].contains(advice), "{name} {how:?}: {}", sentences[0]);
        assert_eq!(fs::read(&path).ok(), before, "{name} {how:?}");
        assert_eq!(fs::metadata(&path).ok().map(|meta| meta.permissions().mode()), mode);
    }
    copy(&whole, &agent.home());
    Home::new(agent.home()).keyring().unwrap();
}
