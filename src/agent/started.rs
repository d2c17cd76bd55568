//! How the agent is started on this host.

use std::path::Path;

use super::home::Home;

/// How a service that runs begins anew.
pub(super) fn restart() -> &'static str {
    if under_systemd() { "systemctl restart writeback-agent" } else { "end it, and run it again" }
}

/// How it is started.
pub(super) fn start(home: &Home) -> String {
    if under_systemd() {
        "systemctl enable --now writeback-agent".to_owned()
    } else {
        format!("writeback-agent --home {} run", home.folder().display())
    }
}

fn under_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}
