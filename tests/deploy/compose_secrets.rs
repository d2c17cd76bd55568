//! deploy/compose/secrets: whoever runs it, in whatever order, and whatever is there, the nodes get what they need, and nobody else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tempfile::TempDir;

use super::{project, run};
use crate::support::cli::{Cli, Said};

const USER: u32 = 1000;
const ANOTHER: u32 = 1001;
/// Nobody's, and in nobody's group.
const STRANGER: u32 = 4242;

/// What nodes are given; the last for everybody.
const SECRETS: [&str; 4] = ["cluster.key", "tls.key", "tls.crt", "ca.pem"];

/// A command as this user runs it.
pub(super) fn as_user(user: u32, command: &str) -> String {
    if user == 0 {
        return command.to_owned();
    }
    format!("setpriv --reuid={user} --regid={user} --clear-groups {command}")
}

/// The folder `deploy` as this user has it, in a folder that everybody may look into.
pub(super) fn checkout(owner: Option<u32>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let deploy = folder.path().join("deploy");
    copy(&project("deploy"), &deploy);
    // What whoever works here has made.
    let _ = fs::remove_dir_all(deploy.join("compose/secret"));
    let _ = fs::remove_file(deploy.join(".env"));
    owner.into_iter().for_each(|owner| give(&deploy, owner));
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn give(path: &Path, owner: u32) {
    chown(path, Some(owner), Some(owner)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), owner));
    }
}

/// The shell's words in the folder above `deploy`.
async fn shell(folder: &TempDir, words: &str) -> Said {
    Cli::new("bash", &["-c"]).run(&[&format!("cd {} && {words}", folder.path().display())]).await
}

async fn secrets(folder: &TempDir, user: u32) -> Said {
    shell(folder, &as_user(user, "deploy/compose/secrets")).await
}

fn file(folder: &TempDir, name: &str) -> std::path::PathBuf {
    folder.path().join("deploy/compose/secret").join(name)
}

/// Whom the nodes are run as.
fn whom(folder: &TempDir) -> u32 {
    let env = fs::read_to_string(folder.path().join("deploy/.env")).unwrap();
    let users: Vec<&str> = env.lines().filter_map(|line| line.strip_prefix("WRITEBACK_USER=")).collect();
    let [user] = users[..] else { panic!("{env}") };
    let (user, group) = user.split_once(':').unwrap();
    assert_eq!(user, group);
    user.parse().unwrap()
}

/// The nodes read everything, a stranger only the CA, all belongs together, and a node takes it.
async fn is_good(folder: &TempDir, what: &str) {
    let node = whom(folder);
    for name in SECRETS {
        let cat = format!("cat deploy/compose/secret/{name}");
        let read = shell(folder, &as_user(node, &cat)).await;
        assert!(read.status == 0 && read.out.len() > 40, "{what}: {name}: {read:?}");
        let stolen = shell(folder, &as_user(STRANGER, &cat)).await;
        assert_eq!(stolen.status == 0, name == "ca.pem", "{what}: {name}: {stolen:?}");
    }
    let [ca, cert, key] = ["ca.pem", "tls.crt", "tls.key"].map(|name| file(folder, name).display().to_string());
    let verified = run("openssl", &["verify", "-CAfile", &ca, "-verify_hostname", "haproxy", &cert]).await;
    assert_eq!(verified.status, 0, "{what}: {verified:?}");
    let public = run("openssl", &["pkey", "-in", &key, "-pubout"]).await.out;
    assert_eq!(run("openssl", &["x509", "-in", &cert, "-noout", "-pubkey"]).await.out, public, "{what}");
    // Who signs others is nobody's to take, and nothing is left lying about.
    assert_eq!(fs::read_dir(file(folder, "")).unwrap().count(), SECRETS.len(), "{what}");
}

fn keys(folder: &TempDir) -> [String; 4] {
    SECRETS.map(|name| fs::read_to_string(file(folder, name)).unwrap())
}

#[tokio::test]
async fn a_user_and_root_run_it_in_any_order_again_and_again_and_what_is_there_stays() {
    for (owner, order) in [
        (USER, &[USER, USER][..]),
        (USER, &[USER, 0, USER, 0]),
        (USER, &[0, USER, 0]),
        (USER, &[0, ANOTHER]),
        (USER, &[USER, ANOTHER]),
        (0, &[0, 0, USER]),
    ] {
        let folder = checkout(Some(owner));
        let mut made = None;
        for (nth, user) in order.iter().enumerate() {
            let what = format!("{order:?} in a checkout of {owner}, call {nth}");
            let said = secrets(&folder, *user).await;
            assert_eq!(said.status, 0, "{what}: {said:?}");
            is_good(&folder, &what).await;
            assert_eq!(*made.get_or_insert_with(|| keys(&folder)), keys(&folder), "{what}: they are others");
        }
        let taken_over = order.contains(&0);
        assert_eq!(whom(&folder), if taken_over { 65532 } else { USER }, "{order:?}");
    }
}

#[tokio::test]
async fn what_is_missing_broken_or_does_not_fit_is_made_and_the_rest_stays() {
    let folder = checkout(Some(USER));
    assert_eq!(secrets(&folder, USER).await.status, 0);
    for user in [USER, 0] {
        for name in SECRETS {
            for fault in ["missing", "empty", "half", "a folder of Docker's"] {
                let (what, before, path) =
                    (format!("{name} is {fault}, for {user}"), keys(&folder), file(&folder, name));
                let half = before[SECRETS.iter().position(|known| *known == name).unwrap()][..20].to_owned();
                fs::remove_file(&path).unwrap();
                match fault {
                    "missing" => {}
                    "empty" => fs::write(&path, "").unwrap(),
                    "half" => fs::write(&path, half).unwrap(),
                    _ => fs::create_dir(&path).unwrap(),
                }
                if path.is_file() {
                    give(&path, user);
                }
                let said = secrets(&folder, user).await;
                assert_eq!(said.status, 0, "{what}: {said:?}");
                is_good(&folder, &what).await;
                let after = keys(&folder);
                assert_eq!(before[0] == after[0], name != "cluster.key", "{what}: the cluster's key");
                assert_eq!(before[1] == after[1], name == "cluster.key", "{what}: the certificate's key");
            }
        }
    }
    // Each is a good one, of two.
    let other = checkout(Some(USER));
    assert_eq!(secrets(&other, USER).await.status, 0);
    fs::copy(file(&other, "ca.pem"), file(&folder, "ca.pem")).unwrap();
    assert_eq!(secrets(&folder, 0).await.status, 0);
    is_good(&folder, "another CA").await;
}

#[tokio::test]
async fn from_any_folder_with_any_umask_and_a_checkout_of_any_modes() {
    for umask in ["000", "022", "077", "0777"] {
        let folder = checkout(Some(USER));
        let deploy = folder.path().join("deploy");
        let modes = if umask == "000" { "a+rwX" } else { "go-rwx" };
        assert_eq!(
            shell(&folder, &format!("chmod -R {modes} deploy && chmod a+rx deploy deploy/compose")).await.status,
            0
        );
        fs::write(deploy.join(".env"), "OTHER=kept\nWRITEBACK_USER=7:7\n").unwrap();
        let script = deploy.join("compose/secrets").display().to_string();
        for words in ["cd / && CDPATH=/tmp:/ ", "cd deploy && ", "cd deploy/compose && sh ./secrets && "] {
            let said = shell(&folder, &format!("umask {umask} && {words}{script}")).await;
            assert_eq!(said.status, 0, "{umask}, {words}: {said:?}");
            is_good(&folder, umask).await;
        }
        assert!(fs::read_to_string(deploy.join(".env")).unwrap().contains("OTHER=kept\n"));
        // The containers have users of their own, and a node takes no settings that anybody may write.
        for file in ["compose/relay.toml", "compose/haproxy.cfg", "compose/prometheus.yml", "prometheus/rules.yaml"] {
            let mode = fs::metadata(deploy.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o066, 0o044, "{umask}: {file} has {mode:o}");
        }
        let dashboards = fs::metadata(deploy.join("grafana")).unwrap().permissions().mode();
        assert_eq!(dashboards & 0o077, 0o055, "{umask}: {dashboards:o}");
    }
}

#[tokio::test]
async fn what_only_root_can_mend_is_said_so_and_root_mends_it() {
    // Docker was started before: it makes what it is to mount, as root.
    let folder = checkout(Some(USER));
    fs::create_dir_all(file(&folder, "ca.pem")).unwrap();
    let said = secrets(&folder, USER).await;
    assert!(said.status == 1 && said.err.contains("run this as root"), "{said:?}");
    assert_eq!(secrets(&folder, 0).await.status, 0);
    is_good(&folder, "after Docker").await;
    // Root's alone, as another script may have made them.
    for name in SECRETS {
        fs::set_permissions(file(&folder, name), fs::Permissions::from_mode(0o600)).unwrap();
        chown(file(&folder, name), Some(0), Some(0)).unwrap();
    }
    let said = secrets(&folder, USER).await;
    assert!(said.status == 1 && said.err.contains("root's alone: run this as root"), "{said:?}");
    assert_eq!(secrets(&folder, 0).await.status, 0);
    is_good(&folder, "root's alone").await;
}
