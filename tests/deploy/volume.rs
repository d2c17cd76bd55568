//! A store in files on a volume as Kubernetes gives it to a pod (`fsGroup`): the pod's second life, and every one after that.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::password::Password;

use super::chart::one;
use super::pod::{Pod, secrets};
use super::{objects, project, template};
use crate::support::agent::{Agent, demo};
use crate::support::kubelet::{ChangePolicy, Container, Mount, Prober, set_volume_ownership};
use crate::support::own_address;
use crate::support::redis::Redis;
use crate::support::relay::{Relay, TENANT, TestPortal, tenant};

const RELAY: &str = env!("CARGO_BIN_EXE_writeback-relay");
const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");
const JANE: &str = "jane@corp.example";

/// Users of the pod's lives: who runs it may change that, and OpenShift chooses one for each namespace.
const FIRST: u32 = 64532;
const SECOND: u32 = 64540;
/// The pod's `fsGroup`.
const POD: u32 = 64533;
/// A user, and a group, that have nothing to do with it.
const STRANGER: u32 = 64599;

/// A shell that becomes a program as this user, in the pod's group. Nobody but root need reach the program's folder.
fn as_user(user: u32) -> String {
    let identity = format!("--reuid={user} --regid={user} --groups={user},{POD}");
    format!("exec 9<\"$0\"; exec setpriv {identity} /proc/self/fd/9 \"$@\"; ")
}

/// All that is on a volume, itself too.
fn all_of(volume: &Path) -> Vec<PathBuf> {
    let inside = fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().path());
    let inside = inside.flat_map(|path| if path.is_dir() { all_of(&path) } else { vec![path] });
    [volume.to_owned()].into_iter().chain(inside).collect()
}

/// As if all of it had been made by this user, and the volume itself was root's.
fn made_by(user: u32, volume: &Path) {
    all_of(volume).into_iter().for_each(|path| chown(path, Some(user), Some(user)).unwrap());
    chown(volume, Some(0), Some(0)).unwrap();
}

fn set(path: &Path, owner: u32, group: u32, mode: u32) {
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

async fn reset(portal: &TestPortal, password: &str) {
    let (jane, password) = (Subject::upn(JANE).unwrap(), Password::new(password.to_owned()).unwrap());
    let wait = Duration::from_secs(30);
    portal.portal.reset(&tenant(), &jane, password, Options::default(), wait).await.unwrap();
}

#[tokio::test]
async fn resets_go_on_in_every_life_of_a_pod_on_a_volume_as_kubernetes_gives_it() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), 0, 0, 0o755);
    let volume = folder.path().join("volume");
    let mut relay = Relay::start_in(volume.clone()).await;
    let portal = relay.portal("portal-1").await;
    let agent = Agent::running(&relay, &portal, &[JANE], 0).await;
    assert!(relay.terminate().await.success());
    made_by(FIRST, &volume);
    for (life, (user, policy)) in [
        (FIRST, ChangePolicy::OnRootMismatch),
        (FIRST, ChangePolicy::OnRootMismatch),
        (FIRST, ChangePolicy::Always),
        (SECOND, ChangePolicy::Always),
        (FIRST, ChangePolicy::Always),
    ]
    .into_iter()
    .enumerate()
    {
        set_volume_ownership(&volume, POD, policy);
        if policy == ChangePolicy::Always {
            let token = fs::metadata(volume.join("admin.token")).unwrap();
            assert_eq!((token.gid(), token.mode() & 0o777), (POD, 0o660), "that is not what kubelet does");
        }
        relay.starts_after(&as_user(user));
        relay.start_again().await;
        agent.usable(&portal).await;
        reset(&portal, &format!("The-{life}.-Passw0rd")).await;
        assert!(relay.terminate().await.success(), "life {life}: {}", relay.log());
    }
}

/// What a relay of the first user says before it ends, in a folder with a token of its making; nothing if it comes up.
fn refusal(data: &Path) -> Option<String> {
    let [listen, ops] = [own_address(), own_address()].map(|address| format!("{address}:8443"));
    let data = data.display();
    let run = format!("\"$1\" run --dev-tls --data-dir {data} --listen {listen} --ops-listen {ops} & ");
    let wait = format!("while kill -0 $! 2>&-; do [ -e {data}/ledger.redb ] && kill $! && break; done; wait $!");
    let mut command = Command::new("timeout");
    command.args(["60", "setpriv"]);
    command.args([format!("--reuid={FIRST}"), format!("--regid={FIRST}"), format!("--groups={FIRST},{POD}")]);
    command.args(["sh", "-c", &format!("exec 9<&0; {run}{wait}"), "sh", "/proc/self/fd/9"]).current_dir("/");
    let output = command.stdin(File::open(RELAY).unwrap()).output().unwrap();
    assert_ne!(output.status.code(), Some(124), "it took too long");
    let said = String::from_utf8(output.stderr).unwrap();
    (!output.status.success()).then_some(said)
}

#[test]
fn a_secret_that_a_group_can_read_is_refused_wherever_it_was_not_given_to_our_group_with_its_whole_folder() {
    const OPEN: &str = "others may read this file";
    let dir = tempfile::tempdir().unwrap();
    set(dir.path(), 0, 0, 0o755);
    for (name, folder, file, expected) in [
        // As kubelet makes them, whoever made the file.
        ("given", (0, POD, 0o2770), (FIRST, POD, 0o660), None),
        ("ext4", (0, POD, 0o2775), (FIRST, POD, 0o660), None),
        ("read-only", (0, POD, 0o2770), (FIRST, POD, 0o440), None),
        ("other-user", (0, POD, 0o2770), (SECOND, POD, 0o660), None),
        ("roots", (0, POD, 0o2770), (0, POD, 0o660), None),
        ("own", (FIRST, POD, 0o2770), (FIRST, POD, 0o660), None),
        // A user's own secret in a folder of his, with a group or without.
        ("ordinary", (FIRST, FIRST, 0o700), (FIRST, FIRST, 0o660), Some(OPEN)),
        ("ordinary-read", (FIRST, FIRST, 0o755), (FIRST, FIRST, 0o640), Some(OPEN)),
        ("shared", (FIRST, POD, 0o770), (FIRST, POD, 0o660), Some(OPEN)),
        ("shared-to-read", (FIRST, POD, 0o2750), (FIRST, POD, 0o660), Some(OPEN)),
        // Somebody gains.
        ("everybody-reads", (0, POD, 0o2770), (FIRST, POD, 0o664), Some(OPEN)),
        ("everybody-writes", (0, POD, 0o2770), (FIRST, POD, 0o662), Some(OPEN)),
        ("another-group", (0, POD, 0o2770), (FIRST, STRANGER, 0o660), Some(OPEN)),
        ("strangers-file", (0, POD, 0o770), (STRANGER, POD, 0o660), Some(OPEN)),
        ("strangers-secret", (FIRST, FIRST, 0o700), (STRANGER, FIRST, 0o400), Some("")),
        // Whoever is in our group could have given us this.
        ("strangers-folder", (STRANGER, POD, 0o2770), (FIRST, POD, 0o660), Some("this folder belongs to the user")),
        (
            "strangers-group",
            (FIRST, STRANGER, 0o2770),
            (FIRST, STRANGER, 0o660),
            Some("others may write into this folder"),
        ),
    ] {
        let data = dir.path().join(name);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("admin.token"), "x".repeat(43)).unwrap();
        set(&data.join("admin.token"), file.0, file.1, file.2);
        set(&data, folder.0, folder.1, folder.2);
        match (refusal(&data), expected) {
            (None, None) => {}
            (Some(said), Some(expected)) => assert!(said.contains(expected), "{name}: {said}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

/// The chart for one node at this address, with a store of this kind.
fn chart(store: &str, address: &str, more: &str) -> Vec<serde_json::Value> {
    let values = project(&format!("tests/deploy/values/{store}.yaml"));
    let yaml = template(&values, &[&format!("listenAddress={address},logFilter=debug{more}")]);
    objects(&yaml.unwrap(), &["--check"]).unwrap()
}

#[tokio::test]
async fn the_charts_pod_keeps_what_it_has_on_a_volume_that_was_anybodys_as_any_user_and_with_nothing_else_to_write_to()
{
    let address = own_address().to_string();
    let objects = chart("embedded", &address, "");
    let folder = tempfile::tempdir().unwrap();
    let pod = Pod::new(one(&objects, "Deployment"), &objects, &secrets(), folder.path());
    let (volume, log) = (&pod.volumes["data"], folder.path().join("log"));
    // An export of another machine's, say: kubelet changes no owner.
    set(volume, STRANGER, STRANGER, 0o700);
    let container = pod.container(RELAY.as_ref());
    let grace = Duration::from_secs(pod.grace_period);
    let call = |words: &[&str]| {
        let fixed = ["/usr/local/bin/writeback-relay"].into_iter().chain(words.iter().copied());
        fixed.chain(["--ops-url", &format!("http://{address}:9443")]).map(str::to_owned).collect::<Vec<_>>()
    };
    for (life, user) in [container.user, container.user, SECOND, 1_000_660_000].into_iter().enumerate() {
        set_volume_ownership(volume, container.fs_group, ChangePolicy::Always);
        let running = Container { user, ..container.clone() }.start(&log);
        let mut ready = Prober::new(&running, pod.probe("Readiness", &address));
        ready.until(true).await;
        let arguments: &[&str] = if life == 0 { &["tenant", "add", TENANT] } else { &["tenant", "list"] };
        let said = running.exec(&call(arguments), grace).await.unwrap();
        assert!(life == 0 || said.trim() == TENANT, "life {life}: {said}");
        assert!(
            running.exec(&["touch".to_owned(), "/tmp".to_owned()], grace).await.is_err(),
            "its root can be written to"
        );
        let stopped = running.stop(Duration::ZERO, grace).await;
        assert!(stopped.status.success() && !stopped.killed, "life {life}: {stopped:?}");
    }
}

#[tokio::test]
async fn kubectl_describe_shows_why_a_node_is_not_ready_in_the_nodes_own_words() {
    let (redis, address) = (Redis::single().await, own_address().to_string());
    redis.kill(6379).await;
    let objects = chart("redis", &address, &format!(",redis.urls={{redis://{}}}", redis.addr(6379)));
    let folder = tempfile::tempdir().unwrap();
    let pod = Pod::new(one(&objects, "Deployment"), &objects, &secrets(), folder.path());
    let running = pod.container(RELAY.as_ref()).start(&folder.path().join("log"));
    let mut startup = Prober::new(&running, pod.probe("Startup", &address));
    startup.until(true).await;

    let mut ready = Prober::new(&running, pod.probe("Readiness", &address));
    let failed = ready.attempt().await.unwrap_err();
    assert!(failed.starts_with("Readiness probe failed: writeback-relay: not ready: "), "{failed}");
    assert!(failed.contains("the node waits for its store") && failed.contains("refused"), "{failed}");
    // One event, which is counted.
    assert_eq!(ready.attempt().await.unwrap_err(), failed);
    assert_eq!(ready.events, [(failed, 2)]);

    redis.start_again(6379).await;
    ready.until(true).await;
    // As `kubectl delete pod`: load balancers are given their time, and then the node its own.
    let stopped = running.stop(Duration::from_secs(1), Duration::from_secs(pod.grace_period)).await;
    assert!(stopped.status.success() && !stopped.killed && stopped.took > Duration::from_secs(1), "{stopped:?}");
}

#[tokio::test]
async fn a_node_that_answers_nothing_is_not_ready_within_the_probes_own_time() {
    let address = own_address().to_string();
    let objects = chart("embedded", &address, "");
    let folder = tempfile::tempdir().unwrap();
    let pod = Pod::new(one(&objects, "Deployment"), &objects, &secrets(), folder.path());
    set_volume_ownership(&pod.volumes["data"], POD, ChangePolicy::Always);
    let running = Container { fs_group: POD, ..pod.container(RELAY.as_ref()) }.start(&folder.path().join("log"));
    let mut ready = Prober::new(&running, pod.probe("Readiness", &address));
    ready.until(true).await;
    running.process.freeze();
    let failed = ready.attempt().await.unwrap_err();
    assert!(failed.contains("does not answer") && failed.contains("no answer within 2 s"), "{failed}");
    // And it does not end in its time: SIGKILL, as a frozen one deserves.
    let stopped = running.stop(Duration::ZERO, Duration::from_secs(2)).await;
    assert!(stopped.killed && !stopped.status.success(), "{stopped:?}");
}

#[tokio::test]
async fn an_agents_folder_may_be_such_a_volume_too() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = Agent::new(&relay);
    agent.configure(&demo(&agent.home(), &[JANE], 0));
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.enroll(&code.to_text().unwrap()).await.status, 0);
    let (home, log) = (agent.home(), agent.home().with_file_name("log"));
    made_by(FIRST, &home);
    for (life, user) in [FIRST, FIRST, SECOND].into_iter().enumerate() {
        set_volume_ownership(&home, POD, ChangePolicy::Always);
        let container = Container {
            user,
            group: user,
            fs_group: POD,
            mounts: vec![
                Mount { from: home.clone(), at: home.clone(), read_only: false },
                Mount { from: relay.ca_file(), at: relay.ca_file(), read_only: true },
            ],
            program: AGENT.into(),
            arguments: vec!["--home".to_owned(), home.display().to_string(), "run".to_owned()],
            ..Container::default()
        };
        let running = container.start(&log);
        agent.usable(&portal).await;
        reset(&portal, &format!("The-{life}.-Passw0rd")).await;
        let status = ["/usr/local/bin/writeback-agent", "--home", home.to_str().unwrap(), "status"].map(str::to_owned);
        running.exec(&status, Duration::from_secs(30)).await.unwrap();
        let stopped = running.stop(Duration::ZERO, Duration::from_secs(30)).await;
        assert!(stopped.status.success(), "life {life}: {stopped:?}: {}", fs::read_to_string(&log).unwrap());
    }
}
