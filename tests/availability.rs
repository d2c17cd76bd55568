//! What the relay says is possible, by what agents have found: for each operation, and for one account.

use serde_json::Value;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::protocol::problem::ProblemCode;

use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::relay::{Answered, Relay, TENANT, TestPortal};

const ALL: [&str; 3] = ["reset_password", "change_password", "unlock_account"];

struct Stage {
    portal: TestPortal,
    agent: RawAgent,
    session: RawSession,
    /// No two reports have the same.
    checked_at: i64,
    _relay: Relay,
}

fn domain(name: &str, units: u32) -> v1::PreflightDomain {
    let upn_suffixes = vec![name.to_owned(), "shared.test".to_owned()];
    v1::PreflightDomain { name: name.to_owned(), upn_suffixes, units }
}

/// A failed row: about a unit, or about a whole domain if that is empty.
fn failed(domain: &str, unit: &str, operations: &[&str]) -> v1::PreflightRow {
    let operations = operations.iter().map(|&operation| operation.to_owned()).collect();
    v1::PreflightRow {
        check: "reset_password".to_owned(),
        target: unit.to_owned(),
        state: v1::PreflightState::Failed.into(),
        detail: "it is missing".to_owned(),
        scope: Some(v1::PreflightScope { domain: domain.to_owned(), unit: !unit.is_empty(), operations }),
        ..v1::PreflightRow::default()
    }
}

impl Stage {
    async fn new() -> Self {
        let relay = Relay::start().await;
        let portal = relay.portal("portal-1").await;
        let agent = RawAgent::enrolled(&relay, &portal).await;
        let session = agent.open_as(InstanceId::new(&System, &System)).await;
        Self { portal, agent, session, checked_at: System.now().0, _relay: relay }
    }

    async fn get(&self, path: &str) -> Answered {
        let raw = &self.portal.raw;
        let bearer = raw.assertion().sign(&raw.key).unwrap();
        raw.send(|http, relay| http.get(format!("{relay}/v1/tenants/{TENANT}/{path}")).bearer_auth(bearer)).await
    }

    /// The agent is asked to check, and has found this: a report that was asked for is noted however soon it comes.
    async fn found(&mut self, rows: Vec<v1::PreflightRow>) {
        let raw = &self.portal.raw;
        let (bearer, agent) = (raw.assertion().sign(&raw.key).unwrap(), self.agent.agent);
        let url = format!("tenants/{TENANT}/agents/{agent}/preflight");
        let asked = raw.send(|http, relay| http.post(format!("{relay}/v1/{url}")).bearer_auth(bearer)).await;
        assert_eq!(asked.status, 202, "{}", asked.text());
        assert!(matches!(self.session.next().await, FromRelay::Check(_)));
        self.checked_at += 1;
        let (checked_at, domains) = (self.checked_at, vec![domain("a.test", 2), domain("b.test", 1)]);
        self.session.send(FromAgent::Preflight(v1::Preflight { checked_at, rows, domains })).await;
        eventually("the report is noted", || async {
            let listed: Value = self.get("agents").await.json();
            listed["agents"][0]["preflight"]["checked_at"] == checked_at
        })
        .await;
    }

    /// Whether it is possible, why not, whether it is degraded, and what is possible.
    async fn says(&self, query: &str) -> (bool, String, bool, Vec<String>) {
        let said: Value = self.get(&format!("availability{query}")).await.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let operations = said["operations"].as_array().into_iter().flatten().map(text).collect();
        let agents = said["agents"].as_array().unwrap().len();
        assert_eq!(said["available"] == true, agents == 1, "{said}");
        (said["available"] == true, text(&said["reason"]), said["degraded"] == true, operations)
    }

    async fn expect(&self, query: &str, reason: &str, degraded: bool, operations: &[&str]) {
        let expected = operations.iter().map(|&operation| operation.to_owned()).collect();
        assert_eq!(self.says(query).await, (reason.is_empty(), reason.to_owned(), degraded, expected), "{query}");
    }
}

#[tokio::test]
async fn one_bad_unit_or_domain_leaves_the_others_available_and_an_account_hears_of_its_own() {
    let mut stage = Stage::new().await;
    stage.expect("", "", false, &ALL).await;

    // A right is missing in one unit of two.
    stage.found(vec![failed("a.test", "OU=One", &["reset_password"])]).await;
    stage.expect("", "", true, &ALL).await;
    stage.expect("?account=jane%40A.test", "", true, &ALL).await;
    stage.expect("?account=jane%40b.test", "", false, &ALL).await;
    stage.expect("?account=jane%40a.test&operation=unlock_account", "", false, &["unlock_account"]).await;

    // In both: there an unlock is all that is left.
    let both = ["OU=One", "OU=Two"].map(|unit| failed("a.test", unit, &["reset_password", "change_password"]));
    stage.found(both.to_vec()).await;
    stage.expect("?account=jane%40a.test", "", true, &["unlock_account"]).await;
    stage.expect("?account=jane%40a.test&operation=reset_password", "preflight_failed", false, &[]).await;
    stage.expect("?operation=reset_password", "", true, &["reset_password"]).await;

    // One domain is away.
    stage.found(vec![failed("b.test", "", &ALL)]).await;
    stage.expect("", "", true, &ALL).await;
    stage.expect("?account=jane%40b.test", "preflight_failed", false, &[]).await;
    stage.expect("?account=jane%40shared.test", "preflight_failed", false, &[]).await;
    stage.expect("?account=jane%40a.test", "", false, &ALL).await;
    stage.expect("?account=6f2c1b1e-3f0a-4b7e-9a51-0d2f3c4b5a69", "", true, &ALL).await;
    stage.expect("?account=jane%40c.test", "not_served", false, &[]).await;

    // All of it; and what an agent says of itself, as older ones say everything.
    stage.found(vec![failed("b.test", "", &ALL), failed("a.test", "", &ALL)]).await;
    stage.expect("", "preflight_failed", false, &[]).await;
    stage.found(vec![v1::PreflightRow { scope: None, ..failed("a.test", "OU=One", &[]) }]).await;
    stage.expect("", "preflight_failed", false, &[]).await;
    stage.found(vec![]).await;
    stage.expect("", "", false, &ALL).await;
}

#[tokio::test]
async fn a_question_that_can_not_be_understood_is_refused() {
    let stage = Stage::new().await;
    let answered = stage.get("availability?account=jane").await;
    assert_eq!((answered.status, answered.problem()), (400, ProblemCode::Malformed.as_str().to_owned()));
    assert_eq!(stage.get("availability?operation=delete_account").await.status, 400);
}
