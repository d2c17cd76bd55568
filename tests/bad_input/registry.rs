//! What others could have a relay keep without end: who has it keep too much is told which limit that is, and nobody else
//! notices.

use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::api::{AgentList, AgentStatus, PreflightReport, PreflightRow, PreflightState};
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::ids::{AgentId, InvitationId, JournalId};
use writeback_relay::relay::registry::{AgentRecord, Snapshot, TenantRecord, TenantSnapshot};

use super::rotations::{Stage, sealing, signing};
use super::{counter, counting};
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Answered, Relay, TENANT, TestPortal, tenant};

fn hits(limit: &str) -> String {
    format!("writeback_limits_hits_total{{limit=\"{limit}\"}}")
}

fn refused(answered: &Answered, names: &str) {
    assert_eq!((answered.status, answered.problem().as_str()), (429, "rate_limited"), "{}", answered.text());
    assert!(answered.headers.contains_key("retry-after"));
    assert!(answered.detail().contains(names), "{}", answered.detail());
}

/// The tenant's agents, as the portal asks for them with this query.
async fn listed(portal: &TestPortal, query: &str) -> (AgentList, Option<String>) {
    let bearer = portal.raw.assertion().sign(&portal.raw.key).unwrap();
    let answered = portal
        .raw
        .send(|http, relay| http.get(format!("{relay}/v1/tenants/{TENANT}/agents{query}")).bearer_auth(bearer))
        .await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let link = answered.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
    (answered.json(), link)
}

#[tokio::test]
async fn a_tenant_that_has_as_many_invitations_as_it_may_is_told_so() {
    let relay = Relay::start_with("[limits]\ntenant_invitations = 1").await;
    let portal = relay.portal("portal-1").await;
    portal.portal.invite(&tenant(), false).await.unwrap();
    let second = counting(&relay, &hits("tenant_invitations"), portal.portal.invite(&tenant(), false)).await;
    let said = second.unwrap_err().to_string();
    assert!(said.contains("rate_limited") && said.contains("tenant_invitations"), "{said}");
}

#[tokio::test]
async fn a_tenant_that_has_as_many_agents_as_it_may_is_told_so_and_the_code_stays_good() {
    let relay = Relay::start_with("[limits]\ntenant_agents = 2\ntenant_unapproved_agents = 1").await;
    let portal = relay.portal("portal-1").await;
    let first = RawAgent::pending(&relay, &portal).await;
    let second = RawAgent::new(&relay);
    let code = portal.portal.invite(&tenant(), false).await.unwrap();
    let enrols = async |agent: &RawAgent| agent.redeem(&portal, &agent.enrollment(&code)).await;
    let too_many = counting(&relay, &hits("tenant_unapproved_agents"), enrols(&second)).await;
    refused(&too_many, "tenant_unapproved_agents");
    let approve = async |agent: &RawAgent| {
        let fingerprint = agent.keys().fingerprint(agent.agent);
        drop(portal.portal.approve(&tenant(), agent.agent, &fingerprint).await.unwrap());
    };
    approve(&first).await;
    assert_eq!(enrols(&second).await.status, 201, "the same code");
    approve(&second).await;
    let code = portal.portal.invite(&tenant(), false).await.unwrap();
    let third = RawAgent::new(&relay);
    let enrols = async || third.redeem(&portal, &third.enrollment(&code)).await;
    refused(&counting(&relay, &hits("tenant_agents"), enrols()).await, "tenant_agents");
    // A revoked one counts until the operator has it forgotten.
    let _ = portal.portal.revoke(&tenant(), first.agent).await.unwrap();
    refused(&enrols().await, "tenant_agents");
    assert!(!relay.operator(&["agent", "forget", TENANT, &second.agent.to_string()]), "it serves");
    assert!(relay.operator(&["agent", "forget", TENANT, &first.agent.to_string()]));
    assert_eq!(enrols().await.status, 201);
}

#[tokio::test]
async fn commands_for_agents_that_do_not_serve_count_as_commands_and_no_more_of_them_are_kept() {
    let relay = Relay::start_with("[limits]\ntenant_commands_per_second = 1").await;
    let portal = relay.portal("portal-1").await;
    let pending = RawAgent::pending(&relay, &portal).await;
    let unknown = AgentId::new(&System, &System);
    for (agent, code) in [(pending.agent, "agent_pending"), (unknown, "unknown_agent")] {
        let mut refused = 0;
        for _ in 0..20 {
            let (asked, jws) = portal.raw.reset(agent, pending.sealing.public(), "jane@corp.example", "Pass-Word-2026");
            let answered = portal.raw.submit(&jws, 0).await;
            // A ledger that is younger than a command may have forgotten that it came before: it takes the one, and calls the
            // other's outcome unknown.
            let said = if answered.status == 202 { code.to_owned() } else { answered.problem() };
            if said != code {
                assert!(["rate_limited", "outcome_unknown"].contains(&&*said), "{said}");
                assert_eq!(portal.raw.follow(asked.jti, 0).await.status, 404, "nothing is kept of it");
                refused += 1;
            }
        }
        assert!(refused > 0, "{code}");
    }
    assert!(counter(&relay, &hits("tenant_rate")).await > 0);
}

#[tokio::test]
async fn what_an_agent_found_is_cut_and_counted() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let (agent, pending) = (RawAgent::enrolled(&relay, &portal).await, RawAgent::pending(&relay, &portal).await);
    let row = v1::PreflightRow {
        check: "bind".into(),
        target: "dc1".into(),
        state: v1::PreflightState::Failed.into(),
        detail: "no".into(),
        remedy: String::new(),
        remedy_code: String::new(),
        scope: None,
    };
    let report = v1::Preflight { checked_at: System.now().0, rows: vec![row; 500], domains: Vec::new() };
    for (who, rows) in [(&agent, 128), (&pending, 16)] {
        let before = counter(&relay, &hits("preflight_size")).await;
        let mut session = who.open().await;
        session.send(FromAgent::Preflight(report.clone())).await;
        eventually("it is counted", async || counter(&relay, &hits("preflight_size")).await > before).await;
        let (list, _) = listed(&portal, "").await;
        let shown = list.agents.into_iter().find(|shown| shown.agent == who.agent).unwrap();
        assert_eq!(shown.preflight.unwrap().rows.len(), rows);
    }
}

#[tokio::test]
async fn an_acknowledgement_that_is_longer_than_it_need_be_ends_the_session() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let said = serde_json::json!({"padding": "x".repeat(2048)});
    let jws = agent.signing.sign("writeback-acknowledgement+jwt", &said).unwrap();
    session.send(FromAgent::Acknowledgement(v1::Acknowledgement { jws })).await;
    let (code, why) = session.closed().await;
    assert!(code == 4500 && why.contains("at most 2048 bytes"), "{code} {why}");
}

#[tokio::test]
async fn a_list_of_agents_comes_in_pages_for_whoever_asks_so_and_as_a_whole_for_older_portals() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    for _ in 0..5 {
        RawAgent::pending(&relay, &portal).await;
    }
    let (whole, link) = listed(&portal, "").await;
    assert_eq!((whole.agents.len(), whole.next, link), (5, None, None));
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    for expected in [2, 2, 1] {
        let (page, link) = listed(&portal, &query).await;
        assert_eq!(page.agents.len(), expected);
        seen.extend(page.agents.into_iter().map(|agent| agent.agent));
        assert_eq!(page.next.is_some(), link.is_some());
        if let (Some(next), Some(link)) = (page.next, link) {
            query = format!("?limit=2&after={next}");
            assert_eq!(link, format!("</v1/tenants/{TENANT}/agents{query}>; rel=\"next\""));
        }
    }
    let all: Vec<_> = whole.agents.into_iter().map(|agent| agent.agent).collect();
    seen.sort_unstable();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(seen, sorted);
    let bearer = portal.raw.assertion().sign(&portal.raw.key).unwrap();
    for wrong in ["limit=0", "limit=many", "after=hunter2"] {
        let url = format!("/v1/tenants/{TENANT}/agents?{wrong}");
        let answered = portal.raw.send(|http, relay| http.get(format!("{relay}{url}")).bearer_auth(&bearer)).await;
        assert_eq!((answered.status, answered.problem().as_str()), (400, "malformed"), "{}", answered.text());
        assert!(!answered.text().contains("hunter2"));
    }
}

/// So many approved agents of the tenant, as another registry knew them, each with so much that it has found.
async fn imported(relay: &Relay, agents: usize, found: usize) {
    let row = PreflightRow {
        check: "bind".into(),
        target: "dc1".into(),
        state: PreflightState::Ok,
        detail: "x".repeat(found).into(),
        remedy: "".into(),
        remedy_code: None,
        scope: None,
    };
    let now = System.now();
    let one = AgentRecord {
        agent: AgentId::new(&System, &System),
        name: "host".into(),
        status: AgentStatus::Approved,
        keys: AgentKeys { signing: signing().public().clone(), sealing: sealing() },
        journal: JournalId::new(&System, &System),
        invitation: InvitationId::new(&System, &System),
        attestation: "a.b.c".into(),
        enrolled_at: now,
        version: None,
        preflight: Some(PreflightReport { checked_at: now, rows: vec![row], domains: Vec::new() }),
        later: Default::default(),
    };
    let agents = (0..agents).map(|_| AgentRecord { agent: AgentId::new(&System, &System), ..one.clone() });
    let tenant = TenantRecord { tenant: tenant(), created_at: now };
    let tenants = vec![TenantSnapshot { tenant, invitations: Vec::new(), agents: agents.collect() }];
    relay.admin().import(&Snapshot { version: 1, portals: Vec::new(), tenants }).await.unwrap();
}

#[tokio::test]
async fn a_reset_is_possible_by_the_last_of_many_agents() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    imported(&relay, 120, 10).await;
    // Their order is that of their ids, which begin with the time.
    let last = RawAgent::enrolled(&relay, &portal).await;
    let pending = RawAgent::pending(&relay, &portal).await;
    let _sessions = (last.open().await, pending.open().await);
    let said = portal.portal.availability(&tenant()).await.unwrap();
    assert!(said.available && said.agents == [last.agent], "{said:?}");
    assert_eq!(listed(&portal, "").await.0.agents.len(), 122);
}

#[tokio::test]
async fn whoever_takes_no_list_of_agents_gets_no_third_one_and_another_portal_is_served() {
    let relay = Relay::start().await;
    let (portal, another) = (relay.portal("portal-1").await, relay.portal("portal-2").await);
    imported(&relay, 140, 30_000).await;
    let asked = async || {
        let bearer = portal.raw.assertion().sign(&portal.raw.key).unwrap();
        let http = crate::support::https_client(Some(&relay.ca_file())).unwrap();
        let url = format!("{}/v1/tenants/{TENANT}/agents", relay.url());
        http.get(url).bearer_auth(bearer).send().await.unwrap()
    };
    let (first, second) = (asked().await, asked().await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let third = counting(&relay, &hits("agent_lists"), asked()).await;
    assert_eq!(third.status().as_u16(), 503);
    assert!(third.headers().contains_key("retry-after"));
    let problem: serde_json::Value = third.json().await.unwrap();
    assert_eq!(problem["code"], "overloaded");
    let (page, _) = listed(&another, "").await;
    assert!(page.agents.len() > 100 && page.next.is_some());
    let taken: AgentList = first.json().await.unwrap();
    assert_eq!(taken.agents.len(), page.agents.len());
    assert_eq!(asked().await.status().as_u16(), 200);
}

#[tokio::test]
async fn the_operators_lists_come_in_pages_and_his_programs_follow_them() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let created_at = System.now();
    let names = (0..1100).map(|n| format!("tenant-{n:04}").parse().unwrap());
    let tenants = names.map(|tenant| TenantSnapshot {
        tenant: TenantRecord { tenant, created_at },
        invitations: Vec::new(),
        agents: Vec::new(),
    });
    let snapshot = Snapshot { version: 1, portals: Vec::new(), tenants: tenants.collect() };
    relay.admin().import(&snapshot).await.unwrap();
    assert_eq!(relay.admin().tenants().await.unwrap().len(), 1101);
    let (one, two) = (RawAgent::enrolled(&relay, &portal).await, RawAgent::enrolled(&relay, &portal).await);
    let _sessions = (one.open().await, one.open().await, two.open().await);
    let token = std::fs::read_to_string(relay.data_dir().join("admin.token")).unwrap();
    let http = crate::support::https_client(None).unwrap();
    for (list, rows) in [("tenants/contoso/agents", 2), ("portals", 1), ("sessions", 2), ("presence", 2)] {
        let (mut seen, mut next) = (Vec::new(), Some(format!("/admin/v1/{list}?limit=1")));
        while let Some(page) = next {
            let asked = http.get(format!("{}{page}", relay.ops_url())).bearer_auth(token.trim()).send().await.unwrap();
            let link = asked.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            let mut page: Vec<serde_json::Value> = asked.json().await.unwrap();
            assert_eq!(page.len(), 1, "{list}");
            seen.push(page.remove(0).to_string());
            next = link.map(|link| link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned());
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), rows, "{list}");
    }
}

#[tokio::test]
async fn an_agent_changes_its_keys_sixty_times_an_hour_and_what_does_not_hold_does_not_count() {
    let stage = Stage::new().await;
    let mut now = (stage.agent.keys(), stage.agent.signing.clone());
    for seq in 1..=61 {
        let (key, sealing) = (signing(), sealing());
        let forged = stage.rotation(seq, (&now.0, &signing()), (&key, &sealing));
        assert_ne!(stage.post("agent", "application/jose", &forged).await.status, 204);
        let jws = stage.rotation(seq, (&now.0, &now.1), (&key, &sealing));
        let answered = stage.post("agent", "application/jose", &jws).await;
        if seq == 61 {
            refused(&answered, "60 times");
            assert_eq!(answered.headers["retry-after"], "61");
            break;
        }
        assert_eq!(answered.status, 204, "{seq}: {}", answered.text());
        now = (AgentKeys { signing: key.public().clone(), sealing }, key);
    }
    assert_eq!(counter(&stage.relay, &hits("agent_rotations")).await, 1);
}

#[tokio::test]
async fn a_portal_has_eight_keys_at_the_most_and_a_rotation_is_no_longer_than_it_need_be() {
    let stage = Stage::new().await;
    let mut from = stage.portal.raw.key.clone();
    for seq in 1..=8 {
        let to = signing();
        let answered = stage.post("portal", "application/jose", &stage.portal_rotation(seq, &from, &to)).await;
        if seq == 8 {
            assert_eq!((answered.status, answered.problem().as_str()), (409, "rotation_refused"));
            assert!(answered.detail().contains("let an old one go first"), "{}", answered.detail());
            break;
        }
        assert_eq!(answered.status, 204, "{}", answered.text());
        from = to;
    }
    // A key that says more than it has to.
    let (agent, next) = (&stage.agent, signing());
    let jws = stage.rotation(1, (&agent.keys(), &agent.signing), (&next, &sealing()));
    let claims = writeback_relay::protocol::jose::Jws::parse(&jws, "writeback-agent-rotation+jwt").unwrap();
    let mut claims: serde_json::Value = claims.unverified().unwrap();
    claims["padding"] = "x".repeat(5000).into();
    let long = agent.signing.sign("writeback-agent-rotation+jwt", &claims).unwrap();
    let answered = stage.post("agent", "application/jose", &long).await;
    assert_eq!((answered.status, answered.problem().as_str()), (409, "rotation_refused"), "{}", answered.text());
    assert!(answered.detail().contains("4096 bytes"), "{}", answered.detail());
}
