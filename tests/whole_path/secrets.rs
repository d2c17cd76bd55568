//! No secret is anywhere but where it has to be: not in a log, an answer, a metric, or a file.

use std::path::{Path, PathBuf};

use writeback_relay::protocol::enrolment_code::EnrolmentCode;

use super::{NEW, OLD, Stage};
use crate::support::ldap_proxy::{LdapProxy, Request, When};
use crate::support::samba::{Ou, SERVICE_PASSWORD, dc};
use crate::support::secrets::{Needle, private_key};

const WEAK: &str = "Kurz-ä1";
const CHANGED: &str = "Ch&nged-Passw0rd-ß4";
const HELD: &str = "Held-Passw0rd-𝔘5";

/// Files that are there to hold a secret, or are not ours.
const KEY_FILES: [&str; 4] = ["signing-key.jwk", "sealing-key.jwk", "admin.token", "dev-key.pem"];

/// Everything that can be read, with where it was found.
type Haystack = Vec<(String, Vec<u8>)>;

fn files(folder: &Path, found: &mut Haystack) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() && !KEY_FILES.contains(&path.file_name().unwrap().to_str().unwrap()) {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

async fn everything(stage: &Stage) -> Haystack {
    let mut found = Haystack::new();
    // The portal prints the code, once, for the one who asked for it.
    let portal = stage.portal.transcript();
    assert_eq!(portal.matches(&stage.code).count(), 1);
    found.push(("the portal's output".to_owned(), portal.replace(&stage.code, "").into_bytes()));
    found.push(("the relay's log".to_owned(), stage.relay.log().into_bytes()));
    found.push(("the agent's log".to_owned(), stage.agent.log().into_bytes()));
    found.push(("the metrics".to_owned(), stage.relay.metrics().await.into_bytes()));
    for folder in [stage.relay.data_dir(), stage.agent.home(), stage.portal.home()] {
        files(&folder, &mut found);
    }
    found
}

fn needles(stage: &Stage) -> Vec<Needle> {
    let code: EnrolmentCode = stage.code.parse().unwrap();
    let admin_token = std::fs::read_to_string(stage.relay.data_dir().join("admin.token")).unwrap();
    let passwords = [OLD, NEW, WEAK, CHANGED, HELD].map(|password| Needle::of_text(password, password));
    let mut needles = Vec::from(passwords);
    needles.extend([
        Needle::of_text("the service account's password", SERVICE_PASSWORD),
        Needle::of_text("the admin token", admin_token.trim()),
        Needle::of_bytes("the enrolment token", code.token.expose()),
        Needle::of_bytes("the attestation secret", code.secret.expose()),
        Needle::of_text("the enrolment code", &stage.code),
        private_key(stage.agent.home().join("signing-key.jwk")),
        private_key(stage.agent.home().join("sealing-key.jwk")),
        private_key(stage.portal.home().join("signing-key.jwk")),
    ]);
    needles
}

async fn assert_no_secret(stage: &Stage, seen: &str) {
    let everything = everything(stage).await;
    for (place, bytes) in &everything {
        for needle in needles(stage) {
            assert!(!needle.is_in(bytes), "{} is in {place}", needle.name);
        }
    }
    // The search does find what is there.
    let seen = Needle::of_text(seen, seen);
    for expected in ["the agent's log", "events.jsonl", "commands/"] {
        let found = everything.iter().any(|(place, bytes)| place.contains(expected) && seen.is_in(bytes));
        assert!(found, "{} is not in {expected}", seen.name);
    }
}

#[tokio::test]
async fn secrets_are_nowhere_after_successes_failures_and_a_crash() {
    let proxy = LdapProxy::start().await;
    let mut stage = Stage::everywhere(&proxy.url()).await;
    let user = dc().create_user("secret", Ou::Staff, OLD).await;
    let outside = dc().create_user("secret-outside", Ou::Other, OLD).await;
    for (upn, password, status) in [
        (user.upn.as_str(), NEW, 0),
        (&user.upn, WEAK, 2),
        (&outside.upn, NEW, 2),
        ("nobody@example.test", NEW, 2),
        (&user.upn, &HELD.repeat(20), 1),
    ] {
        let said = stage.portal.reset(upn, password, &[]).await;
        assert_eq!(said.status, status, "{said:?}");
        stage.portal.reset(upn, password, &["--json"]).await;
    }

    for (current, new, status) in [(OLD, CHANGED, 2), (NEW, CHANGED, 0), (CHANGED, WEAK, 2)] {
        let said = stage.portal.change(&user.upn, current, new).await;
        assert_eq!(said.status, status, "{said:?}");
    }

    // The journal knows a command that was begun, with its sealed password, and nobody knows its end.
    proxy.hold(Request::Modify, When::Before);
    let asking = stage.portal.start_reset(&user.upn, HELD, &[]);
    proxy.holds(Request::Modify).await;
    stage.agent.kill();
    assert_no_secret(&stage, &user.upn).await;
    // What was held back is lost.
    proxy.cut(Request::Modify, When::Before);
    proxy.all_closed().await;
    proxy.pass(Request::Modify);
    stage.agent.start();
    assert_eq!(asking.said().await.status, 3);
    stage.agent.terminate().await;
    stage.relay.terminate().await;
    stage.relay.start_again().await;
    assert_no_secret(&stage, &user.upn).await;
}
