//! A node as a systemd service: what it tells systemd, its unit, and the commands of docs/operations.md, "Without Kubernetes".

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use writeback_relay::relay::config::Config;

use super::runbook::blocks;
use super::{project, read};
use crate::support::cli::Cli;
use crate::support::redis::Redis;
use crate::support::relay::{Relay, TENANT};
use crate::support::service_manager::{Manager, analyzed};
use crate::support::{deadline, own_address};

/// For the shell that becomes the node.
fn exported(manager: &Manager) -> String {
    manager.environment().map(|(variable, value)| format!("export {variable}='{value}'; ")).concat()
}

#[tokio::test]
async fn the_service_manager_hears_that_the_node_is_ready_alive_how_it_is_and_that_it_stops_and_how_long_that_may_take()
{
    let manager = Manager::new();
    let redis = Redis::single().await;
    let key = redis.password_file("a key that all nodes of this cluster share");
    let settings = format!("store = \"redis\"\n[drain]\ntimeout_seconds = 100\n{}", redis.settings(&key));
    let mut relay = Relay::start_after(&exported(&manager), &settings).await;
    manager.hears("READY=1", 1).await;
    manager.hears("WATCHDOG=1", 3).await;
    manager.hears("STATUS=serves; agent sessions: 0", 1).await;
    redis.freeze(6379);
    manager.hears("; no writes are taken: redis does not answer", 1).await;
    redis.thaw(6379);
    manager.hears("STATUS=serves; agent sessions: 0", 2).await;
    assert!(relay.terminate().await.success());
    manager.hears("STOPPING=1", 1).await;
    let heard = manager.heard();
    let longer = heard.iter().find_map(|said| said.strip_prefix("EXTEND_TIMEOUT_USEC=")).unwrap();
    assert!(longer.parse::<u64>().unwrap() >= 100_000_000, "the drain's time: {longer}");
    // One that hangs says nothing any more, and would be started anew.
    relay.start_again().await;
    manager.hears("READY=1", 2).await;
    relay.freeze();
    manager.forget();
    tokio::time::timeout(Duration::from_secs(2), manager.hears("WATCHDOG=1", 1)).await.unwrap_err();
}

#[tokio::test]
async fn a_node_that_waits_for_redis_says_for_what_and_is_ready_when_redis_is_there() {
    let manager = Manager::new();
    let redis = Redis::single().await;
    let key = redis.password_file("a key that all nodes of this cluster share");
    let settings = format!("store = \"redis\"\n{}", redis.settings(&key));
    let mut relay = Relay::start_after(&exported(&manager), &settings).await;
    manager.hears("READY=1", 1).await;
    assert!(relay.terminate().await.success());
    redis.kill(6379).await;
    let again = async {
        relay.start_again().await;
        relay
    };
    let watched = async {
        manager.hears("STATUS=waits for its store: ", 1).await;
        assert_eq!(manager.heard().iter().filter(|said| *said == "READY=1").count(), 1, "it does not serve yet");
        redis.start_again(6379).await;
        manager.hears("READY=1", 2).await;
    };
    let (mut relay, ()) = tokio::join!(again, watched);
    assert!(relay.terminate().await.success());
}

/// The value of a line of the unit.
fn unit(name: &str) -> String {
    let text = read("deploy/writeback-relay.service");
    text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap_or_else(|| panic!("{name}")).to_owned()
}

#[test]
fn the_unit_is_what_systemd_expects_and_shuts_the_node_in() {
    analyzed("writeback-relay", env!("CARGO_BIN_EXE_writeback-relay"), 15);
    let mut config = Config::read(&project("deploy/relay.toml")).unwrap();
    config.drain.termination_grace_period_seconds = Some(unit("TimeoutStopSec").parse().unwrap());
    assert_eq!(config.drain.cut_off(), None, "a drain as long as the default");
    assert_eq!(config.data_dir.display().to_string(), format!("/var/lib/{}", unit("StateDirectory")));
}

/// The first of its commands install; here below a folder, for a user who is known by a number alone.
#[tokio::test]
async fn what_the_document_installs_is_what_the_unit_starts_and_serves() {
    const SERVICE: &str = "4711";
    let blocks = blocks("## Without Kubernetes");
    let install = blocks.iter().find(|block| block.contains("useradd")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = folder.path().display().to_string();
    let made = rcgen::generate_simple_self_signed(["relay.example.com".to_owned()]).unwrap();
    fs::write(folder.path().join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(folder.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let below = |text: &str| {
        let text = text.replace("target/release/writeback-relay", env!("CARGO_BIN_EXE_writeback-relay"));
        ["/usr/local/bin", "/etc", "/var/lib"]
            .iter()
            .fold(text, |text, place| text.replace(&format!(" {place}/"), &format!(" {root}{place}/")))
    };
    let install = below(install)
        .replace("-g writeback-relay", &format!("-g {SERVICE}"))
        .replace(" deploy/", &format!(" {}/", project("deploy").display()));
    let folders = format!("mkdir -p {root}/usr/local/bin {root}/etc/systemd/system {root}/var/lib");
    let state = format!("install -d -m 0700 -o {SERVICE} -g {SERVICE} {root}/var/lib/writeback-relay");
    let address = own_address();
    let settings = format!(
        "sed -i 's|^public_url = .*|public_url = \"https://{address}:8443\"\\nlisten = \"{address}:8443\"\\nops_listen = \
         \"{address}:9443\"\\ndata_dir = \"{root}/var/lib/writeback-relay\"|; /^data_dir = \"\\/var/d; \
         s|\"/etc/|\"{root}/etc/|' {root}/etc/writeback-relay/relay.toml"
    );
    let (start, umask, ops) =
        (below(&format!(" {}", unit("ExecStart"))), unit("UMask"), format!("http://{address}:9443"));
    let token = format!("{root}/var/lib/writeback-relay/admin.token");
    let operator = below(" /usr/local/bin/writeback-relay");
    let script = format!(
        "set -e; cd {root}; useradd() {{ :; }}\n{folders}\n{install}\n{state}\n{settings}\numask {umask}\n\
         setpriv --reuid={SERVICE} --regid={SERVICE} --clear-groups --no-new-privs --bounding-set=-all {start} >log 2>&1 &\n\
         trap 'kill $!; wait' EXIT\nexport WRITEBACK_OPS_URL={ops} WRITEBACK_ADMIN_TOKEN_FILE={token}\n\
         until {operator} ready; do kill -0 $! || {{ cat log; exit 1; }}; done 2>/dev/null\n\
         {operator} tenant add {TENANT}\n{operator} status"
    );
    let said = deadline("the node serves", Cli::new("bash", &["-c"]).run(&[&script])).await;
    assert!(said.status == 0 && said.out.contains("serving"), "{said:?}");
    let stranger = format!("setpriv --reuid=4242 --regid=4242 --clear-groups cat {root}/etc/writeback-relay/tls.key");
    assert_ne!(Cli::new("sh", &["-c"]).run(&[&stranger]).await.status, 0, "the key is anybody's");
    let installed = fs::read_to_string(folder.path().join("etc/systemd/system/writeback-relay.service")).unwrap();
    assert_eq!(installed, read("deploy/writeback-relay.service"));
}
