use std::sync::Arc;

use writeback_relay::clock::{System, UnixTime};
use writeback_relay::protocol::api::{AgentStatus, PreflightReport};
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::ids::{AgentId, InvitationId, JournalId, ObjectId};
use writeback_relay::protocol::jose::{SealingKey, SigningKey};
use writeback_relay::relay::registry::{
    Added, AgentRecord, InvitationRecord, PortalRecord, Redeemed, Registry, TenantRecord,
};

use super::stores::{Ground, on_every_backend};
use super::{agent, tenant};

on_every_backend! {
    an_invitation_is_redeemed_by_one_agent_and_by_the_same_again
    a_tombstone_stays
    what_is_exported_restores_an_empty_registry
    tenants_do_not_see_each_others_agents_even_with_one_name_beginning_as_the_other
    an_assertion_is_used_once_until_it_has_expired_anyway
    what_an_agent_says_about_itself_is_kept_and_changes_nothing_else
}

const NOW: UnixTime = UnixTime(1_800_000_000);
const LATER: UnixTime = UnixTime(1_800_000_100);

fn keys() -> AgentKeys {
    AgentKeys {
        signing: SigningKey::generate(&System).unwrap().public().clone(),
        sealing: SealingKey::generate().unwrap().public().clone(),
    }
}

fn invitation() -> InvitationRecord {
    InvitationRecord {
        invitation: InvitationId::new(&System, &System),
        portal: "portal-1".parse().unwrap(),
        token_sha256: "token".into(),
        expires_at: LATER,
        redeemed_by: None,
    }
}

fn pending(agent: AgentId, invitation: &InvitationRecord) -> AgentRecord {
    AgentRecord {
        agent,
        name: "host".into(),
        status: AgentStatus::Pending,
        keys: keys(),
        journal: JournalId::new(&System, &System),
        invitation: invitation.invitation,
        attestation: "a.b.c".into(),
        enrolled_at: NOW,
        version: None,
        preflight: None,
        later: Default::default(),
    }
}

pub(super) async fn enrolled(registry: &dyn Registry, name: &str) -> AgentRecord {
    let invitation = invitation();
    registry.add_invitation(&tenant(name), invitation.clone()).await.unwrap();
    let record = pending(agent(), &invitation);
    let redeemed = registry.redeem(&tenant(name), "token", record.clone(), NOW).await.unwrap();
    assert!(matches!(redeemed, Redeemed::Enrolled { .. }));
    record
}

async fn an_invitation_is_redeemed_by_one_agent_and_by_the_same_again(ground: Ground) {
    let registry = ground.registry().await;
    let (t, invitation) = (tenant("a"), invitation());
    assert_eq!(registry.add_invitation(&t, invitation.clone()).await.unwrap(), Added::New);
    assert_eq!(registry.add_invitation(&t, invitation.clone()).await.unwrap(), Added::Same);
    let other = InvitationRecord { token_sha256: "x".into(), ..invitation.clone() };
    assert_eq!(registry.add_invitation(&t, other).await.unwrap(), Added::Other);

    let first = pending(agent(), &invitation);
    assert_eq!(registry.redeem(&t, "wrong", first.clone(), NOW).await.unwrap(), Redeemed::Unknown);
    assert_eq!(registry.redeem(&tenant("b"), "token", first.clone(), NOW).await.unwrap(), Redeemed::Unknown);
    assert_eq!(registry.redeem(&t, "token", first.clone(), LATER).await.unwrap(), Redeemed::Expired);

    let candidates: Vec<_> = (0..8).map(|_| pending(agent(), &invitation)).collect();
    let racing = candidates.iter().cloned().map(|candidate| {
        let (registry, t) = (Arc::clone(&registry), t.clone());
        tokio::spawn(async move { registry.redeem(&t, "token", candidate, NOW).await.unwrap() })
    });
    let mut won = Vec::new();
    for race in racing.collect::<Vec<_>>() {
        if let Redeemed::Enrolled { agent, portal } = race.await.unwrap() {
            assert_eq!(portal, invitation.portal);
            won.push(*agent);
        }
    }
    assert_eq!(won.len(), 1, "one of many");
    let winner = won.remove(0);
    let again = registry.redeem(&t, "token", winner.clone(), LATER).await.unwrap();
    assert!(matches!(again, Redeemed::Enrolled { .. }), "an identical request is answered again, even later");
    let other_keys = AgentRecord { keys: keys(), ..winner.clone() };
    assert_eq!(registry.redeem(&t, "token", other_keys, NOW).await.unwrap(), Redeemed::Used);
    assert_eq!(registry.agents(&t).await.unwrap(), vec![winner]);
}

async fn a_tombstone_stays(ground: Ground) {
    let registry = ground.registry().await;
    let record = enrolled(&*registry, "a").await;
    let t = tenant("a");
    let approved = registry.approve(&t, record.agent).await.unwrap().unwrap();
    assert_eq!(approved.status, AgentStatus::Approved);
    let before = registry.export().await.unwrap();
    registry.revoke(&t, record.agent).await.unwrap();
    assert_eq!(registry.approve(&t, record.agent).await.unwrap().unwrap().status, AgentStatus::Revoked);
    registry.import(before).await.unwrap();
    assert_eq!(registry.agent(&t, record.agent).await.unwrap().unwrap().status, AgentStatus::Revoked);
    assert_eq!(registry.revoke(&t, agent()).await.unwrap(), None);
}

async fn what_is_exported_restores_an_empty_registry(ground: Ground) {
    let registry = ground.registry().await;
    registry.add_tenant(TenantRecord { tenant: tenant("a"), created_at: NOW }).await.unwrap();
    let portal = PortalRecord {
        portal: "portal-1".parse().unwrap(),
        keys: vec![SigningKey::generate(&System).unwrap().public().clone()],
        tenants: vec![tenant("a")],
        later: Default::default(),
    };
    registry.put_portal(portal.clone()).await.unwrap();
    let revoked = enrolled(&*registry, "a").await;
    registry.revoke(&tenant("a"), revoked.agent).await.unwrap();
    let exported = registry.export().await.unwrap();

    drop(registry);
    let ground = ground.cleared();
    let other = ground.registry().await;
    other.import(serde_json::from_slice(&serde_json::to_vec(&exported).unwrap()).unwrap()).await.unwrap();
    assert_eq!(other.export().await.unwrap(), exported);
    assert_eq!(other.portal(&portal.portal).await.unwrap(), Some(portal));
}

async fn tenants_do_not_see_each_others_agents_even_with_one_name_beginning_as_the_other(ground: Ground) {
    let registry = ground.registry().await;
    let (a, ab) = (enrolled(&*registry, "a").await, enrolled(&*registry, "a-b").await);
    assert_eq!(registry.agents(&tenant("a")).await.unwrap(), vec![a.clone()]);
    assert_eq!(registry.agents(&tenant("a-b")).await.unwrap(), vec![ab]);
    assert_eq!(registry.agent(&tenant("a-b"), a.agent).await.unwrap(), None);
}

async fn an_assertion_is_used_once_until_it_has_expired_anyway(ground: Ground) {
    let registry = ground.registry().await;
    let (who, jti) = (agent(), ObjectId::new(&System, &System));
    assert!(registry.use_assertion(&tenant("a"), who, jti, LATER, NOW).await.unwrap());
    assert!(!registry.use_assertion(&tenant("a"), who, jti, LATER, NOW).await.unwrap());
    assert!(registry.use_assertion(&tenant("a"), agent(), jti, LATER, NOW).await.unwrap(), "another agent's");
}

async fn what_an_agent_says_about_itself_is_kept_and_changes_nothing_else(ground: Ground) {
    let registry = ground.registry().await;
    let record = enrolled(&*registry, "a").await;
    let report = PreflightReport { checked_at: NOW, rows: Vec::new() };
    registry.note_version(&tenant("a"), record.agent, "1.2.3").await.unwrap();
    registry.note_preflight(&tenant("a"), record.agent, report.clone()).await.unwrap();
    let expected = AgentRecord { version: Some("1.2.3".into()), preflight: Some(report), ..record.clone() };
    assert_eq!(registry.agent(&tenant("a"), record.agent).await.unwrap(), Some(expected));
}
