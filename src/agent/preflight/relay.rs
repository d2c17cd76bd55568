//! Whether the relay can be reached, and what its clock says.

use std::path::Path;
use std::time::Duration;

use reqwest::header::DATE;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::agent::directory::{Check, Finding};
use crate::agent::home::Home;
use crate::clock::Clock;
use crate::net::{causes, https_client};
use crate::protocol::limits::MAX_CLOCK_AHEAD;
use crate::protocol::problem::Problem;

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// Asks the relay of an enrolled agent for a session, without the words that open one.
pub(super) async fn look(home: &Home, ca_file: Option<&Path>, clock: &dyn Clock) -> Vec<Finding> {
    let identity = match home.identity() {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            let folder = home.folder().display().to_string();
            let found = Finding::warning(Check::Relay, &folder, "the agent is not enrolled, so it has no relay yet");
            return vec![found.mended_by("writeback-agent enroll CODE")];
        }
        // It is named among the files.
        Err(_) => return Vec::new(),
    };
    vec![ask(&identity.relay, ca_file, clock).await]
}

async fn ask(relay: &str, ca_file: Option<&Path>, clock: &dyn Clock) -> Finding {
    let failed = |why: String| {
        Finding::failed(Check::Relay, relay, why)
            .mended_by("look at this host's way out: name servers, firewall, HTTPS_PROXY, and ca_file in [relay]")
    };
    let client = match https_client(ca_file) {
        Ok(client) => client,
        Err(error) => return failed(error.to_string()),
    };
    let answer = match client.get(format!("{relay}/v1/agent/session")).timeout(ANSWER).send().await {
        Ok(answer) => answer,
        Err(error) => return failed(causes(&error.without_url())),
    };
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
    let (status, now) = (answer.status(), clock.now());
    if answer.json::<Problem>().await.is_err() {
        return failed(format!("it answered {status}, and not as a relay does: something on the way speaks for it"));
    }
    let ahead = date.and_then(|date| OffsetDateTime::parse(&date, &Rfc2822).ok());
    match ahead.map(|its| its.unix_timestamp() - now.0) {
        Some(ahead) if ahead.unsigned_abs() >= MAX_CLOCK_AHEAD.as_secs() => {
            let detail =
                format!("it answers, but its clock is {ahead} s ahead of this host's: it will refuse the agent");
            Finding::failed(Check::Relay, relay, detail).mended_by("synchronise this host's clock (timedatectl)")
        }
        Some(ahead) => {
            Finding::ok(Check::Relay, relay, format!("it answers; its clock is {ahead} s ahead of this host's"))
        }
        None => Finding::ok(Check::Relay, relay, "it answers"),
    }
}
