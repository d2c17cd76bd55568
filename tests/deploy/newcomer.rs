//! docs/operations.md, "Install on Kubernetes": its commands, one after another, as far as they go without a cluster.

use std::path::Path;

use super::{installed, project, read};
use crate::support::cli::Cli;
use crate::support::{deadline, own_address};

#[tokio::test]
async fn the_commands_lead_from_values_to_an_agent_that_is_approved() {
    let document = read("docs/operations.md");
    let section = document.split_once("\n## Install on Kubernetes\n").unwrap().1.split("\n## ").next().unwrap();
    let commands: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
    let made = rcgen::generate_simple_self_signed(["relay.example.com".to_owned()]).unwrap();
    std::fs::write(folder.path().join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_writeback-relay")).parent().unwrap();
    let relay = format!("https://{address}:8443");
    let prelude = format!(
        "cd {}; export PATH={}:$PATH HELM={} KUBECTL={} ADDRESS={address} RELAY={relay}\n{}",
        folder.path().display(),
        programs.display(),
        installed("helm").display(),
        installed("kubectl").display(),
        read("tests/deploy/newcomer.sh"),
    );
    let script = commands
        .join("\n")
        .replace("--relay https://relay.example.com", &format!("--relay {relay}"))
        .replace("./helm", &project("helm").display().to_string())
        .replace("AGENT_ID", "\"$AGENT_ID\"");
    let cli = Cli::new("bash", &["-c"]);
    let said = deadline("the newcomer's commands", cli.run(&[&format!("{prelude}\n{script}")])).await;
    assert_eq!(said.status, 0, "{said:?}");
    // What `helm install` would have sent.
    let sent = std::fs::read_to_string(folder.path().join("installed")).unwrap();
    for kind in ["Deployment", "ServiceMonitor", "PrometheusRule"] {
        assert!(sent.contains(&format!("kind: {kind}\n")), "{kind}: {sent}");
    }
}
