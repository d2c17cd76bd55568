//! What is remembered of the registry: only a yes, and not after word that it is over.

use std::sync::Arc;

use writeback_relay::clock::System;
use writeback_relay::protocol::api::AgentStatus;
use writeback_relay::protocol::jose::SigningKey;
use writeback_relay::relay::StoreError;
use writeback_relay::relay::bus::{Inbox, Notice};
use writeback_relay::relay::recent::{Attentive, Recent};
use writeback_relay::relay::registry::{AgentRecord, PortalRecord, Registry};

use super::nodes::Told;
use super::registry::enrolled;
use super::stores::Ground;
use super::tenant;

/// A node that remembers, and a registry that others change behind its back.
struct Stage {
    registry: Arc<dyn Registry>,
    recent: Arc<Recent>,
    attentive: Attentive,
    told: Arc<Told>,
    portal: PortalRecord,
    agent: AgentRecord,
    _ground: Ground,
}

impl Stage {
    async fn new() -> Self {
        let ground = Ground::embedded().await;
        let registry = ground.registry().await;
        let key = SigningKey::generate(&System).unwrap().public().clone();
        let portal = PortalRecord {
            portal: "portal-1".parse().unwrap(),
            keys: vec![key],
            tenants: vec![tenant("a")],
            later: Default::default(),
        };
        registry.put_portal(portal.clone()).await.unwrap();
        let agent = enrolled(&*registry, "a").await;
        let recent = Arc::new(Recent::new(Arc::clone(&registry)));
        let told = Told::new();
        let attentive = Attentive { recent: Arc::clone(&recent), inbox: Arc::clone(&told) as Arc<dyn Inbox> };
        Self { registry, recent, attentive, told, portal, agent, _ground: ground }
    }

    /// Whether the portal may serve tenant `a`, as this node judges.
    async fn serves(&self) -> bool {
        let judge = |portal: Option<&PortalRecord>| {
            let granted = portal.is_some_and(|portal| portal.tenants.contains(&tenant("a")));
            if granted { Ok(()) } else { Err(StoreError::Unanswered("no".into())) }
        };
        self.recent.portal(&self.portal.portal, judge).await.is_ok()
    }

    async fn status(&self) -> AgentStatus {
        self.recent.standing(&tenant("a"), self.agent.agent).await.unwrap().unwrap().status
    }
}

#[tokio::test]
async fn a_yes_is_remembered_until_word_comes_that_it_is_over() {
    let stage = Stage::new().await;
    stage.registry.approve(&tenant("a"), stage.agent.agent).await.unwrap();
    assert!(stage.serves().await && stage.status().await == AgentStatus::Approved);
    stage.registry.remove_portal(&stage.portal.portal).await.unwrap();
    stage.registry.revoke(&tenant("a"), stage.agent.agent).await.unwrap();
    assert!(stage.serves().await && stage.status().await == AgentStatus::Approved, "nobody has said anything");
    let changed = Notice::PortalChanged(stage.portal.portal.clone());
    stage.attentive.notice(changed.clone());
    assert!(!stage.serves().await && stage.status().await == AgentStatus::Approved);
    let revoked = Notice::Revoked(tenant("a"), stage.agent.agent);
    stage.attentive.notice(revoked.clone());
    assert_eq!(stage.status().await, AgentStatus::Revoked);
    assert_eq!(*stage.told.notices.lock().unwrap(), vec![changed, revoked], "and others hear it, too");
}

#[tokio::test]
async fn when_word_may_have_been_lost_nothing_is_remembered() {
    let stage = Stage::new().await;
    stage.registry.approve(&tenant("a"), stage.agent.agent).await.unwrap();
    assert!(stage.serves().await && stage.status().await == AgentStatus::Approved);
    stage.registry.remove_portal(&stage.portal.portal).await.unwrap();
    stage.registry.revoke(&tenant("a"), stage.agent.agent).await.unwrap();
    stage.attentive.reconcile();
    assert!(!stage.serves().await && stage.status().await == AgentStatus::Revoked);
}

#[tokio::test]
async fn a_no_is_never_remembered() {
    let stage = Stage::new().await;
    assert_eq!(stage.status().await, AgentStatus::Pending);
    stage.registry.approve(&tenant("a"), stage.agent.agent).await.unwrap();
    assert_eq!(stage.status().await, AgentStatus::Approved);
    stage.registry.put_portal(PortalRecord { tenants: vec![], ..stage.portal.clone() }).await.unwrap();
    assert!(!stage.serves().await);
    stage.registry.put_portal(stage.portal.clone()).await.unwrap();
    assert!(stage.serves().await);
    // What is remembered says no; the registry says yes.
    let other = "b".parse().unwrap();
    let judge = |portal: Option<&PortalRecord>| {
        let granted = portal.is_some_and(|portal| portal.tenants.contains(&other));
        if granted { Ok(()) } else { Err(StoreError::Unanswered("no".into())) }
    };
    stage.recent.portal(&stage.portal.portal, judge).await.unwrap_err();
    let wider = PortalRecord { tenants: vec![tenant("a"), tenant("b")], ..stage.portal.clone() };
    stage.registry.put_portal(wider).await.unwrap();
    stage.recent.portal(&stage.portal.portal, judge).await.unwrap();
}
