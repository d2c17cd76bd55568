//! Folders that somebody else has prepared, or can: what is in them is not taken for ours.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use writeback_relay::storage::PrivateFile;

use crate::support::agent::Agent;
use crate::support::own_address;
use crate::support::relay::Relay;

/// `nobody`, wherever there are tests.
const NOBODY: u32 = 65534;
/// A service's user, with a group that is only its pod's.
const SERVICE: u32 = 64532;
const POD: u32 = 64533;

fn set(path: &Path, owner: u32, group: u32, mode: u32) {
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A relay with this folder, until it has refused it; what it says.
async fn refused_by_the_relay(data: &Path) -> String {
    let log = Relay::refusing_node(own_address(), data.to_owned(), "").await;
    let said = log.lines().last().unwrap_or_default().to_owned();
    assert!(said.contains("data_dir ") && said.contains(&data.display().to_string()), "{log}");
    said
}

/// A folder with a token in it that somebody else knows.
fn prepared(data: &Path, owner: u32, mode: u32) {
    fs::create_dir(data).unwrap();
    let token = data.join("admin.token");
    PrivateFile::new(&token).replace(&"x".repeat(43)).unwrap();
    chown(&token, Some(owner), Some(owner)).unwrap();
    set(data, owner, owner, mode);
}

#[tokio::test]
async fn a_relay_refuses_a_folder_of_somebody_else_or_that_others_may_write_into() {
    let dir = tempfile::tempdir().unwrap();
    for (name, owner, mode, said) in [
        ("foreign", NOBODY, 0o700, "belongs to the user nobody"),
        ("foreign-open", NOBODY, 0o777, "belongs to the user nobody"),
        ("open", 0, 0o777, "chmod 700"),
        ("sticky", 0, 0o1777, "chmod 700"),
    ] {
        let data = dir.path().join(name);
        prepared(&data, owner, mode);
        let log = refused_by_the_relay(&data).await;
        assert!(log.contains(said), "{name}: {log}");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "{name}: nothing was written into it");
    }
    // A group that root is not in.
    let data = dir.path().join("group");
    fs::create_dir(&data).unwrap();
    set(&data, 0, POD, 0o770);
    assert!(refused_by_the_relay(&data).await.contains("chmod 700"));
    // A link that somebody has laid, even to a folder of ours.
    let (ours, link) = (dir.path().join("ours"), dir.path().join("link"));
    fs::create_dir(&ours).unwrap();
    symlink(&ours, &link).unwrap();
    lchown(&link, Some(NOBODY), Some(NOBODY)).unwrap();
    assert!(refused_by_the_relay(&link).await.contains("symbolic link"));
    // Our own link leads where we want.
    lchown(&link, Some(0), Some(0)).unwrap();
    Relay::node(own_address(), link, "").await;
}

#[tokio::test]
async fn a_token_that_somebody_else_has_left_is_refused_in_a_folder_of_ours_too() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    prepared(&data, 0, 0o700);
    chown(data.join("admin.token"), Some(NOBODY), Some(NOBODY)).unwrap();
    let log = Relay::refusing_node(own_address(), data, "").await;
    assert!(log.contains("admin.token") && log.contains("belongs to the user nobody"), "{log}");
}

/// A shell of the service's user, in its pod's group, in which `$1` is this program: whose folder he need not reach.
fn shell_of_the_service(program: &str, script: &str) -> String {
    let mut command = Command::new("timeout");
    command.args(["60", "setpriv"]);
    command.args([format!("--reuid={SERVICE}"), format!("--regid={SERVICE}"), format!("--groups={SERVICE},{POD}")]);
    command.args(["sh", "-c", &format!("exec 9<&0; {script}"), "sh", "/proc/self/fd/9"]).current_dir("/");
    let output = command.stdin(File::open(program).unwrap()).output().unwrap();
    assert_ne!(output.status.code(), Some(124), "it took too long: {script}");
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
}

/// With this umask, until it has made its token, or has ended.
fn run_as_the_service(data: &Path, umask: &str) -> String {
    let [listen, ops] = [own_address(), own_address()].map(|address| format!("{address}:8443"));
    let data = data.display();
    let run = format!("umask {umask}; \"$1\" run --dev-tls --data-dir {data} --listen {listen} --ops-listen {ops} & ");
    let wait = format!("while kill -0 $! 2>&-; do [ -s {data}/admin.token ] && kill $!; done; wait $!");
    shell_of_the_service(env!("CARGO_BIN_EXE_writeback-relay"), &(run + &wait))
}

#[test]
fn a_relay_takes_a_volume_of_its_pods_group_and_makes_its_own_folder_private_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    set(dir.path(), 0, 0, 0o755);
    // As Kubernetes gives a volume to the pod's group; the last is a directory on the node of everybody's.
    for (name, mode, good) in [("volume", 0o2770, true), ("ext4", 0o2775, true), ("empty-dir", 0o2777, false)] {
        let data = dir.path().join(name);
        fs::create_dir(&data).unwrap();
        set(&data, 0, POD, mode);
        let said = run_as_the_service(&data, "022");
        assert_eq!(data.join("admin.token").exists(), good, "{name}: {said}");
        assert!(good || said.contains("others may write into this folder (mode 2777)"), "{said}");
        for umask in ["000", "022", "0277"] {
            let made = data.join(format!("made-{umask}"));
            let said = run_as_the_service(&made, umask);
            assert!(made.join("admin.token").exists(), "{name} {umask}: {said}");
            let found = fs::metadata(&made).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o777), (SERVICE, 0o700), "{name} {umask}");
            let token = fs::metadata(made.join("admin.token")).unwrap();
            assert_eq!(token.mode() & 0o077, 0, "{name} {umask}");
        }
    }
}

#[tokio::test]
async fn an_agent_and_a_portal_refuse_a_folder_that_others_may_write_into_or_have_made() {
    let relay = Relay::start().await;
    let agent = Agent::new(&relay);
    let dir = tempfile::tempdir().unwrap();
    let run = |program: &str, home: &Path, arguments: &[&str]| {
        let output = Command::new(program).arg("--home").arg(home).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");
    const PORTAL: &str = env!("CARGO_BIN_EXE_writeback-portal");
    let init = ["init", "--id", "portal-1", "--relay", "https://relay.example"];
    let home = dir.path().join("portal");
    assert!(run(PORTAL, &home, &init).0);
    assert_eq!(fs::metadata(&home).unwrap().mode() & 0o777, 0o700);
    assert!(run(PORTAL, &home, &["public-key"]).0);

    for (mode, said) in [(0o777, "chmod 700"), (0o1777, "chmod 700"), (0o702, "chmod 700")] {
        set(&home, 0, 0, mode);
        set(&agent.home(), 0, 0, mode);
        let empty = dir.path().join(format!("empty-{mode:o}"));
        fs::create_dir(&empty).unwrap();
        set(&empty, 0, 0, mode);
        let portals = [run(PORTAL, &home, &["public-key"]), run(PORTAL, &empty, &init)];
        let commands: [&[&str]; 8] = [
            &["enroll", "x"],
            &["run"],
            &["status"],
            &["events"],
            &["check"],
            &["grant"],
            &["rotate-keys"],
            &["setup", "--no-questions"],
        ];
        let agents = commands.map(|arguments| run(AGENT, &agent.home(), arguments));
        for (good, error) in portals.into_iter().chain(agents) {
            assert!(!good && error.contains(said) && error.lines().count() == 1, "{mode:o}: {error}");
        }
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    }
    // Of somebody else. Root may look into a service's folder, and not write into it.
    set(&home, NOBODY, NOBODY, 0o700);
    set(&agent.home(), NOBODY, NOBODY, 0o700);
    for (program, home, arguments) in [
        (PORTAL, &home, &["public-key"][..]),
        (AGENT, &agent.home(), &["run"]),
        (AGENT, &agent.home(), &["setup", "--no-questions"]),
    ] {
        let (good, error) = run(program, home, arguments);
        assert!(!good && error.contains("belongs to the user nobody"), "{arguments:?}: {error}");
    }
    // A service's user does not look into root's for anything, nor into another's.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    set(dir.path(), 0, 0, 0o755);
    set(&other, NOBODY, NOBODY, 0o755);
    let error = shell_of_the_service(AGENT, &format!("\"$1\" --home {} status", other.display()));
    assert!(error.contains("belongs to the user nobody"), "{error}");
}
