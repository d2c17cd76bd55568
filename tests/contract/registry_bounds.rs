//! How much a registry keeps of what others have it keep, and for how long.

use std::sync::Arc;

use writeback_relay::clock::{System, UnixTime};
use writeback_relay::protocol::api::{AgentStatus, PreflightReport, PreflightRow, PreflightState};
use writeback_relay::protocol::ids::ObjectId;
use writeback_relay::relay::registry::{
    Added, AgentRecord, Bounds, Forgotten, Full, INVITATION_KEPT, InvitationRecord, Redeemed, Registry, Snapshot,
    TenantRecord, TenantSnapshot, UNAPPROVED_KEPT,
};

use super::registry::{LATER, NOW, enrolled, invitation, pending};
use super::stores::{Ground, on_every_backend};
use super::{agent, tenant};

on_every_backend! {
    a_tenant_has_so_many_invitations_and_another_is_not_hindered
    a_tenant_has_so_many_agents_and_so_many_that_nobody_has_approved
    an_invitation_that_has_ended_is_forgotten_a_day_later
    an_agent_that_nobody_has_approved_is_forgotten_after_a_month_revoked_or_not
    an_agent_that_was_imported_and_that_nobody_has_approved_is_counted_and_forgotten_like_any_other
    a_tombstone_of_an_agent_that_served_stays_until_it_is_forgotten_by_hand
    a_tombstone_that_is_imported_over_an_agent_that_waits_for_its_approval_stays
    agents_come_in_pages_that_together_are_all_of_them
    what_an_agent_found_is_cut_to_so_many_rows_and_bytes_and_earlier_if_nobody_has_approved_it
}

const FEW: Bounds = Bounds { invitations: 2, agents: 3, unapproved: 2 };

/// With its tenants: what is theirs is purged.
async fn stage(ground: &Ground, bounds: Bounds) -> Arc<dyn Registry> {
    let registry = ground.registry_with(bounds).await;
    for name in ["a", "b"] {
        registry.add_tenant(TenantRecord { tenant: tenant(name), created_at: NOW }).await.unwrap();
    }
    registry
}

async fn a_tenant_has_so_many_invitations_and_another_is_not_hindered(ground: Ground) {
    let registry = stage(&ground, FEW).await;
    let (t, first) = (tenant("a"), invitation());
    for invitation in [first.clone(), invitation()] {
        assert_eq!(registry.add_invitation(&t, invitation).await.unwrap(), Added::New);
    }
    assert_eq!(registry.add_invitation(&t, invitation()).await.unwrap(), Added::Full);
    assert_eq!(registry.add_invitation(&t, first).await.unwrap(), Added::Same, "it is there already");
    assert_eq!(registry.add_invitation(&tenant("b"), invitation()).await.unwrap(), Added::New);
    assert_eq!(registry.purge(LATER.plus(INVITATION_KEPT)).await.unwrap(), 3);
    assert_eq!(registry.add_invitation(&t, invitation()).await.unwrap(), Added::New, "there is room again");
}

/// How an agent's enrolment with a code of its own ends.
async fn enrols(registry: &dyn Registry, name: &str) -> Redeemed {
    let invitation = invitation();
    assert_eq!(registry.add_invitation(&tenant(name), invitation.clone()).await.unwrap(), Added::New);
    registry.redeem(&tenant(name), "token", pending(agent(), &invitation), NOW).await.unwrap()
}

async fn a_tenant_has_so_many_agents_and_so_many_that_nobody_has_approved(ground: Ground) {
    let registry = stage(&ground, Bounds { invitations: 100, ..FEW }).await;
    let (t, first) = (tenant("a"), enrolled(&*registry, "a").await);
    let second = enrolled(&*registry, "a").await;
    assert_eq!(enrols(&*registry, "a").await, Redeemed::Full(Full::Unapproved));
    registry.revoke(&t, second.agent).await.unwrap();
    assert_eq!(enrols(&*registry, "a").await, Redeemed::Full(Full::Unapproved), "who revokes may not begin anew");
    registry.approve(&t, first.agent).await.unwrap();
    assert!(matches!(enrols(&*registry, "a").await, Redeemed::Enrolled { .. }));
    assert_eq!(registry.agents(&t).await.unwrap().len(), 3);
    registry.forget(&t, second.agent).await.unwrap();
    assert!(matches!(enrols(&*registry, "a").await, Redeemed::Enrolled { .. }));
    for unapproved in registry.agents(&t).await.unwrap() {
        registry.approve(&t, unapproved.agent).await.unwrap();
    }
    assert_eq!(enrols(&*registry, "a").await, Redeemed::Full(Full::Agents));
    assert!(matches!(enrols(&*registry, "b").await, Redeemed::Enrolled { .. }));
    // A code that was refused so is still good, and an agent that is there may redeem a further one.
    let further = InvitationRecord { portal: "portal-2".parse().unwrap(), ..invitation() };
    registry.add_invitation(&t, further.clone()).await.unwrap();
    let known = registry.agent(&t, first.agent).await.unwrap().unwrap();
    let again = writeback_relay::relay::registry::AgentRecord { invitation: further.invitation, ..known };
    assert!(matches!(registry.redeem(&t, "token", again, NOW).await.unwrap(), Redeemed::Enrolled { .. }));
}

async fn an_invitation_that_has_ended_is_forgotten_a_day_later(ground: Ground) {
    let registry = stage(&ground, Bounds::default()).await;
    let (t, invitation) = (tenant("a"), invitation());
    registry.add_invitation(&t, invitation.clone()).await.unwrap();
    let late = pending(agent(), &invitation);
    let until = LATER.plus(INVITATION_KEPT);
    assert_eq!(registry.purge(UnixTime(until.0 - 1)).await.unwrap(), 0);
    assert_eq!(registry.redeem(&t, "token", late.clone(), until).await.unwrap(), Redeemed::Expired);
    assert_eq!(registry.purge(until).await.unwrap(), 1);
    assert_eq!(registry.redeem(&t, "token", late, until).await.unwrap(), Redeemed::Unknown);
}

async fn an_agent_that_nobody_has_approved_is_forgotten_after_a_month_revoked_or_not(ground: Ground) {
    let registry = stage(&ground, Bounds::default()).await;
    let t = tenant("a");
    let [waits, revoked, approved] =
        [enrolled(&*registry, "a").await, enrolled(&*registry, "a").await, enrolled(&*registry, "a").await];
    registry.revoke(&t, revoked.agent).await.unwrap();
    registry.approve(&t, approved.agent).await.unwrap();
    let until = NOW.plus(UNAPPROVED_KEPT);
    registry.purge(UnixTime(until.0 - 1)).await.unwrap();
    assert_eq!(registry.agents(&t).await.unwrap().len(), 3);
    assert_eq!(registry.purge(until).await.unwrap(), 2);
    for gone in [waits, revoked] {
        assert_eq!(registry.agent(&t, gone.agent).await.unwrap(), None);
    }
    assert!(registry.agent(&t, approved.agent).await.unwrap().is_some());
    assert_eq!(registry.purge(until).await.unwrap(), 0);
}

async fn an_agent_that_was_imported_and_that_nobody_has_approved_is_counted_and_forgotten_like_any_other(
    ground: Ground,
) {
    let registry = stage(&ground, FEW).await;
    let t = tenant("a");
    let [waits, approved, revoked] =
        [(); 3].map(|()| pending(agent(), &invitation())).map(|record| (record.agent, record));
    let as_is = |(_, record): &(_, AgentRecord), status| AgentRecord { status, ..record.clone() };
    let agents = vec![waits.1.clone(), as_is(&approved, AgentStatus::Approved), as_is(&revoked, AgentStatus::Revoked)];
    let tenant_record = TenantRecord { tenant: t.clone(), created_at: NOW };
    let tenants = vec![TenantSnapshot { tenant: tenant_record, invitations: Vec::new(), agents }];
    let snapshot = Snapshot { version: 1, portals: Vec::new(), tenants };
    // The second time it is there.
    for _ in 0..2 {
        registry.import(snapshot.clone()).await.unwrap();
    }
    assert_eq!(registry.agents(&t).await.unwrap().len(), 3);
    registry.forget(&t, revoked.0).await.unwrap();
    let until = NOW.plus(UNAPPROVED_KEPT);
    assert_eq!(registry.purge(UnixTime(until.0 - 1)).await.unwrap(), 0);
    assert_eq!(registry.purge(until).await.unwrap(), 1);
    assert_eq!(registry.agent(&t, waits.0).await.unwrap(), None);
    assert!(registry.agent(&t, approved.0).await.unwrap().is_some());

    registry.import(snapshot).await.unwrap();
    drop(registry);
    let registry = ground.registry_with(Bounds { agents: 100, unapproved: 1, ..FEW }).await;
    assert_eq!(enrols(&*registry, "a").await, Redeemed::Full(Full::Unapproved));
    registry.approve(&t, waits.0).await.unwrap();
    assert!(matches!(enrols(&*registry, "a").await, Redeemed::Enrolled { .. }));
}

async fn a_tombstone_of_an_agent_that_served_stays_until_it_is_forgotten_by_hand(ground: Ground) {
    let registry = stage(&ground, Bounds::default()).await;
    let (t, record) = (tenant("a"), enrolled(&*registry, "a").await);
    registry.approve(&t, record.agent).await.unwrap();
    assert_eq!(registry.forget(&t, record.agent).await.unwrap(), Forgotten::NotRevoked);
    registry.revoke(&t, record.agent).await.unwrap();
    registry.purge(NOW.plus(UNAPPROVED_KEPT * 100)).await.unwrap();
    let tombstone = registry.agent(&t, record.agent).await.unwrap().unwrap();
    assert_eq!(tombstone.status, AgentStatus::Revoked);
    assert_eq!(registry.forget(&t, record.agent).await.unwrap(), Forgotten::Gone);
    assert_eq!(registry.forget(&t, record.agent).await.unwrap(), Forgotten::Unknown);
    assert_eq!(registry.agent(&t, record.agent).await.unwrap(), None);
}

async fn a_tombstone_that_is_imported_over_an_agent_that_waits_for_its_approval_stays(ground: Ground) {
    let registry = stage(&ground, Bounds::default()).await;
    let (t, record) = (tenant("a"), enrolled(&*registry, "a").await);
    let mut later = registry.export().await.unwrap();
    later.tenants[0].agents[0].revoke();
    assert_eq!(registry.import(later.clone()).await.unwrap(), [(t.clone(), record.agent)]);
    assert_eq!(registry.import(later).await.unwrap(), []);
    registry.purge(NOW.plus(UNAPPROVED_KEPT * 100)).await.unwrap();
    let tombstone = registry.agent(&t, record.agent).await.unwrap().unwrap();
    assert_eq!(tombstone.status, AgentStatus::Revoked);
}

async fn agents_come_in_pages_that_together_are_all_of_them(ground: Ground) {
    let registry = stage(&ground, Bounds::default()).await;
    let t = tenant("a");
    for _ in 0..5 {
        enrolled(&*registry, "a").await;
    }
    enrolled(&*registry, "a-b").await;
    let all = registry.agents(&t).await.unwrap();
    assert_eq!(all.len(), 5);
    let (mut paged, mut after) = (Vec::new(), None);
    for expected in [2, 2, 1, 0] {
        let page = registry.agents_after(&t, after, 2).await.unwrap();
        assert_eq!(page.len(), expected);
        after = page.last().map(|record| record.agent).or(after);
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

async fn what_an_agent_found_is_cut_to_so_many_rows_and_bytes_and_earlier_if_nobody_has_approved_it(ground: Ground) {
    let registry = stage(&ground, Bounds::default()).await;
    let (t, record) = (tenant("a"), enrolled(&*registry, "a").await);
    let row = |detail: String| PreflightRow {
        check: "bind".into(),
        target: "dc1".into(),
        state: PreflightState::Failed,
        detail: detail.into(),
        remedy: "".into(),
        remedy_code: None,
        scope: None,
    };
    let many = PreflightReport { checked_at: NOW, rows: vec![row("x".into()); 1000], domains: vec![] };
    let large = PreflightReport { checked_at: NOW, rows: vec![row("x".repeat(1500)); 100], domains: vec![] };
    // Each byte of it is six where it is stored.
    let escaped = PreflightReport { checked_at: NOW, rows: vec![row("\u{1}".repeat(16_000))], domains: vec![] };
    let small = PreflightReport { checked_at: NOW, rows: vec![row("x".repeat(100)); 8], domains: vec![] };
    let noted = async |report: &PreflightReport| {
        let whole = registry.note_preflight(&t, record.agent, report.clone()).await.unwrap();
        let stored = registry.agent(&t, record.agent).await.unwrap().unwrap().preflight.unwrap();
        (whole, stored.rows.len())
    };
    for (report, expected) in [(&many, (false, 16)), (&large, (false, 1)), (&escaped, (false, 0)), (&small, (true, 8))]
    {
        assert_eq!(noted(report).await, expected);
    }
    registry.approve(&t, record.agent).await.unwrap();
    for (report, expected) in
        [(&many, (false, 128)), (&large, (false, 21)), (&escaped, (false, 0)), (&small, (true, 8))]
    {
        assert_eq!(noted(report).await, expected);
    }
    registry.revoke(&t, record.agent).await.unwrap();
    assert_eq!(registry.agent(&t, record.agent).await.unwrap().unwrap().preflight, None);
    assert!(!registry.note_preflight(&t, record.agent, small).await.unwrap());
    assert_eq!(registry.agent(&t, record.agent).await.unwrap().unwrap().preflight, None);
}

/// Where they are many, what is over is forgotten: an agent that never comes again leaves nothing.
#[tokio::test]
async fn a_used_assertion_is_forgotten_when_it_could_not_be_used_again() {
    let ground = Ground::embedded().await;
    let registry = ground.registry().await;
    let (who, jti) = (agent(), ObjectId::new(&System, &System));
    assert!(registry.use_assertion(&tenant("a"), who, jti, LATER, NOW).await.unwrap());
    registry.purge(UnixTime(LATER.0 - 1)).await.unwrap();
    assert!(!registry.use_assertion(&tenant("a"), who, jti, LATER, NOW).await.unwrap(), "it is still good");
    registry.purge(LATER).await.unwrap();
    assert!(registry.use_assertion(&tenant("a"), who, jti, LATER, NOW).await.unwrap(), "nothing is left of it");
}
