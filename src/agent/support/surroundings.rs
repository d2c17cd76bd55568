//! What is around the agent now: the domain controllers, the way to the relay, the clocks.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::time::timeout;

use super::{said, without_user};
use crate::agent::config::Config;
use crate::agent::control::Running;
use crate::agent::directory::Check;
use crate::agent::directory::active_directory::ActiveDirectory;
use crate::agent::directory::config as directory;
use crate::agent::home::Home;
use crate::agent::preflight;
use crate::clock::{Clock, Random};
use crate::net::names::Names;
use crate::net::outbound::Outbound;
use crate::protocol::api::{PreflightReport, PreflightState};

/// Somebody waits for the bundle, and whatever is broken may not answer.
const LIMIT: Duration = Duration::from_secs(60);

/// What was seen, each or why not.
pub(super) struct Surroundings {
    pub(super) check: Result<String, String>,
    pub(super) clocks: Result<String, String>,
    pub(super) controllers: Result<String, String>,
    pub(super) relay: Result<String, String>,
}

/// Looks. A service account that was refused is not tried again: each wrong password counts.
pub(super) async fn look(
    home: &Home,
    running: Option<&Running>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Surroundings {
    let late = |_| format!("no answer within {} s", LIMIT.as_secs());
    let report = timeout(LIMIT, checked(home, running, clock, random)).await.map_err(late).and_then(|report| report);
    let refused = report.as_ref().is_ok_and(logon_is_refused);
    let controllers = async {
        if refused || running.and_then(|running| running.preflight.as_ref()).is_some_and(logon_is_refused) {
            return Err("the service account is refused".to_owned());
        }
        timeout(LIMIT, controllers(home)).await.map_err(late)?
    };
    let (controllers, relay) =
        tokio::join!(controllers, async { timeout(LIMIT, relay(home)).await.map_err(late).and_then(|relay| relay) });
    Surroundings {
        clocks: report
            .as_ref()
            .map(|report| preflight::found_by(report, &[Check::Relay, Check::Clock]))
            .map_err(Clone::clone),
        check: report.map(|report| preflight::table(&report)),
        controllers,
        relay,
    }
}

fn logon_is_refused(report: &PreflightReport) -> bool {
    report.rows.iter().any(|row| row.check == *Check::Bind.as_str() && row.state != PreflightState::Ok)
}

async fn checked(
    home: &Home,
    running: Option<&Running>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<PreflightReport, String> {
    if running.and_then(|running| running.preflight.as_ref()).is_some_and(logon_is_refused) {
        return Err("the running agent's last check found that the service account is refused".to_owned());
    }
    let path = home.config();
    let config = Config::load(&path).map_err(said)?;
    let directory = match config.directory(&path).map_err(said)? {
        // It makes its file when it is opened.
        directory::Config::Demo(_) => return Err("it is a directory for trials".to_owned()),
        directory => directory.open(Arc::clone(&clock), random).map_err(said)?,
    };
    Ok(preflight::check(home, &*directory, &config.relay.access().map_err(said)?, &*clock).await)
}

async fn controllers(home: &Home) -> Result<String, String> {
    let path = home.config();
    match Config::load(&path).map_err(said)?.directory(&path).map_err(said)? {
        directory::Config::Demo(_) => Err("it is a directory for trials".to_owned()),
        directory::Config::ActiveDirectory(config) => {
            Ok(ActiveDirectory::new(config).map_err(said)?.versions().await.join("\n"))
        }
    }
}

/// Where its name leads, by whom that was said, and which proxy is on the way.
async fn relay(home: &Home) -> Result<String, String> {
    let relay = home.identity().map_err(said)?.ok_or("the agent is not enrolled")?.relay;
    let url: Uri = relay.parse().map_err(said)?;
    let (host, port) = (url.host().unwrap_or_default(), url.port_u16().unwrap_or(443));
    let addresses = async {
        let names = Names::at(&[]).map_err(said)?;
        let found = names.addresses(host, port).await.map_err(said)?;
        Ok::<_, String>(found.iter().map(|at| at.ip().to_string()).collect::<Vec<_>>().join(", "))
    };
    let addresses = addresses.await.unwrap_or_else(|why| why);
    let servers = crate::storage::read_text("/etc/resolv.conf".as_ref());
    let servers = servers.map_or_else(said, |text| name_servers(&text));
    let access = Config::load(&home.config()).map_err(said).and_then(|config| config.relay.access().map_err(said));
    let proxy = access.and_then(|access| {
        let outbound = Outbound::new(&access).map_err(said)?;
        Ok(outbound.proxy_to(&url).map_or("none".to_owned(), |proxy| without_user(&proxy.to_string())))
    });
    let environment = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];
    let environment = environment.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    let environment: String = environment.map(|(name, value)| format!("{name} {}\n", without_user(&value))).collect();
    Ok(format!(
        "{host}: {addresses}\nname servers: {servers}\nproxy: {}\n{environment}",
        proxy.unwrap_or_else(|why| why)
    ))
}

fn name_servers(resolv_conf: &str) -> String {
    let servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.map(str::trim).collect::<Vec<_>>().join(", ")
}
