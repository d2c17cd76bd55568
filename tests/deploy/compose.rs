//! deploy/compose.yaml, as far as it goes without its images: what it names exists, nothing is open or unbounded, and its
//! nodes, its load balancer, its agent and its portal, as processes with these files, go the way to a reset.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use writeback_relay::relay::config::Config;

use super::compose_secrets::{as_user, checkout};
use super::runbook::blocks;
use super::{list, project, read, run, text, yaml};
use crate::support::cli::Cli;
use crate::support::{deadline, own_address};

const FILE: &str = "deploy/compose.yaml";

fn services() -> Vec<(String, Value)> {
    let compose = yaml(FILE);
    let services = compose["services"].as_object().unwrap();
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

#[test]
fn every_service_is_bounded_and_without_rights_and_what_it_names_exists() {
    let (compose, services) = (yaml(FILE), services());
    let names: BTreeSet<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = ["agent", "grafana", "haproxy", "portal", "prometheus", "relay-1", "relay-2", "relay-3", "valkey"];
    assert_eq!(names, BTreeSet::from(wanted));
    let dockerfile = read("deploy/Dockerfile");
    for (name, service) in &services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert!(service["mem_limit"].is_string() && service["cpus"].is_number(), "{name}");
        assert!(!text(&service["image"]).ends_with("latest") && text(&service["image"]).contains(':'), "{name}");
        for port in list(&service["ports"]) {
            assert!(text(port).starts_with("127.0.0.1:"), "{name}: {port} is open to others");
        }
        for needed in list(&service["depends_on"]) {
            assert!(names.contains(text(needed)), "{name}: {needed}");
        }
        for volume in list(&service["volumes"]) {
            // What is made by hand is missed by its name, and not made as an empty folder of root's.
            if let Some(secret) = volume["source"].as_str() {
                assert!(secret.starts_with("./compose/secret"), "{name}: {secret}");
                assert_eq!((&volume["read_only"], &volume["bind"]["create_host_path"]), (&true.into(), &false.into()));
                continue;
            }
            let from = text(volume).split(':').next().unwrap();
            let known = compose["volumes"][from].is_object();
            assert!(known || project("deploy").join(from).exists(), "{name}: {from} does not exist");
        }
        if let Some(target) = service["build"]["target"].as_str() {
            assert!(dockerfile.contains(&format!(" AS {target}\n")), "{name}: {target}");
            assert!(text(&service["image"]).ends_with(env!("CARGO_PKG_VERSION")), "{name}");
        }
    }
}

#[test]
fn the_nodes_take_their_configuration_and_are_not_killed_while_they_drain() {
    let config = Config::read(&project("deploy/compose/relay.toml")).unwrap();
    config.redis.unwrap().check().unwrap();
    assert_eq!(config.drain.cut_off(), None);
    let (_, relay) = services().into_iter().find(|(name, _)| name == "relay-1").unwrap();
    let grace = config.drain.termination_grace_period_seconds.unwrap();
    assert_eq!(text(&relay["stop_grace_period"]), format!("{grace}s"));
    for field in [config.tls.as_ref().unwrap().cert_file.display(), config.data_dir.display()] {
        assert!(relay.to_string().contains(field.to_string().rsplit_once('/').unwrap().0), "{field}");
    }
}

#[tokio::test]
async fn haproxy_and_prometheus_take_theirs_and_every_target_is_a_service() {
    let names: BTreeSet<String> = services().into_iter().map(|(name, _)| name).collect();
    let said =
        run("/usr/sbin/haproxy", &["-c", "-f", &project("deploy/compose/haproxy.cfg").display().to_string()]).await;
    assert_eq!(said.status, 0, "{said:?}");
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in
        [("deploy/compose/prometheus.yml", "prometheus.yml"), ("deploy/prometheus/rules.yaml", "rules.yaml")]
    {
        std::fs::copy(project(from), folder.path().join(to)).unwrap();
    }
    let file = folder.path().join("prometheus.yml").display().to_string();
    let said = run("promtool", &["check", "config", &file]).await;
    assert_eq!(said.status, 0, "{said:?}");
    let scraped = yaml("deploy/compose/prometheus.yml");
    for target in list(&scraped["scrape_configs"][0]["static_configs"][0]["targets"]) {
        assert!(names.contains(text(target).split(':').next().unwrap()), "{target}");
    }
    assert_eq!(scraped["scrape_configs"][0]["job_name"], "writeback-relay", "as the alerts know it");
    for line in read("deploy/compose/haproxy.cfg").lines().filter(|line| line.trim_start().starts_with("server ")) {
        assert!(names.contains(line.split_whitespace().nth(1).unwrap()), "{line}");
    }
}

/// The commands of docs/operations.md, with the secrets made by `maker`, if it is not whoever runs this.
async fn lead_to_a_reset(maker: Option<u32>) {
    let commands = blocks("## Compose").remove(0);
    assert!(commands.starts_with("cd deploy\n") && commands.contains("portal reset"), "{commands}");
    let (_, valkey) = services().into_iter().find(|(name, _)| name == "valkey").unwrap();
    let flags: Vec<&str> = list(&valkey["command"]).iter().skip(1).map(text).collect();
    let programs = Path::new(env!("CARGO_BIN_EXE_writeback-relay")).parent().unwrap();
    // Nobody else takes it before haproxy does: it is this test's own until then.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = checkout(maker);
    let mut shell = Cli::new("bash", &["-c"]);
    for (variable, value) in [
        ("PATH", format!("{}:{}:/usr/sbin", programs.display(), std::env::var("PATH").unwrap())),
        ("ADDRESS_1", own_address().to_string()),
        ("ADDRESS_2", own_address().to_string()),
        ("ADDRESS_3", own_address().to_string()),
        ("VALKEY", own_address().to_string()),
        ("VALKEY_FLAGS", flags.join(" ")),
        ("PORT", port.to_string()),
    ] {
        shell.set(variable, &value);
    }
    let secrets = maker.map_or_else(|| "compose/secrets".to_owned(), |user| as_user(user, "compose/secrets"));
    let commands = commands.replace("\ncompose/secrets\n", &format!("\n{secrets}\n"));
    let script = format!("cd {}\n{}\n{commands}", folder.path().display(), read("tests/deploy/compose.sh"));
    let said = deadline("a reset", shell.run(&[&script])).await;
    assert!(said.status == 0 && said.out.contains("done: password_reset"), "{said:?}");
}

#[tokio::test]
async fn the_commands_of_the_document_lead_to_a_reset_through_the_load_balancer() {
    lead_to_a_reset(None).await;
}

#[tokio::test]
async fn and_so_they_do_when_the_secrets_are_made_by_a_user_who_is_not_root() {
    lead_to_a_reset(Some(1000)).await;
}
