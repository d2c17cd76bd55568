//! Whether the relay can be reached, and what its clock says.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::timeout;

use crate::agent::directory::{Check, Finding};
use crate::agent::home::Home;
use crate::clock::Clock;
use crate::net::clock_ahead;
use crate::net::outbound::{Access, Outbound, OutboundError};
use crate::protocol::json;
use crate::protocol::limits::MAX_CLOCK_AHEAD;
use crate::protocol::problem::Problem;
use crate::protocol::remedy::Remedy;

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// What a relay says of a request that opens no session is shorter.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Asks the relay of an enrolled agent for a session, without the words that open one.
pub(super) async fn look(home: &Home, access: &Access, clock: &dyn Clock) -> Vec<Finding> {
    let identity = match home.identity() {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            let folder = home.folder().display().to_string();
            let found = Finding::warning(Check::Relay, &folder, "the agent is not enrolled, so it has no relay yet");
            return vec![found.mended_by(Remedy::Enrol)];
        }
        // It is named among the files.
        Err(_) => return Vec::new(),
    };
    let relay = identity.relay.as_str();
    let outbound = match Outbound::new(access) {
        Ok(outbound) => outbound,
        Err(error) => {
            let found = Finding::failed(Check::Relay, relay, error.to_string());
            return vec![found.mended_by(Remedy::RelaySettings)];
        }
    };
    let proxy = relay.parse().ok().and_then(|url| Some(outbound.proxy_to(&url)?.to_string()));
    let asked = ask(relay, &outbound, clock).await;
    // That it is used; whether it works shows with the relay.
    let proxy = proxy.map(|proxy| Finding::ok(Check::Proxy, &proxy, format!("it is on the way to {relay}")));
    proxy.into_iter().chain([asked]).collect()
}

async fn ask(relay: &str, outbound: &Outbound, clock: &dyn Clock) -> Finding {
    let failed = |why: String| Finding::failed(Check::Relay, relay, why).mended_by(Remedy::WayToRelay);
    let Ok(url) = format!("{relay}/v1/agent/session").parse::<Uri>() else {
        return failed("this is not a URL".to_owned());
    };
    let request = || {
        let request = Request::get(&url).body(Full::<Bytes>::default());
        request.map_err(|error| OutboundError::Request(error.to_string()))
    };
    let answer = match outbound.send(&url, ANSWER, &[], request).await {
        Ok(answered) => answered.response,
        Err(error) => return failed(error.to_string()),
    };
    let (status, ahead) = (answer.status(), clock_ahead(answer.headers(), clock.now()));
    let body = timeout(ANSWER, Limited::new(answer.into_body(), MAX_PROBLEM_BYTES).collect()).await;
    let problem = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
    if problem.and_then(|body| json::read::<Problem>(&body).ok()).is_none() {
        return failed(format!(
            "what answers there is no relay: it answers {status} without a problem document; something on the way speaks \
             for it"
        ));
    }
    match ahead {
        Some(ahead) if ahead.unsigned_abs() >= MAX_CLOCK_AHEAD.as_secs() => {
            let detail =
                format!("it answers, but its clock is {ahead} s ahead of this host's: it will refuse the agent");
            Finding::failed(Check::Relay, relay, detail).mended_by(Remedy::SetClock)
        }
        Some(ahead) => {
            Finding::ok(Check::Relay, relay, format!("it answers; its clock is {ahead} s ahead of this host's"))
        }
        None => Finding::ok(Check::Relay, relay, "it answers"),
    }
}
