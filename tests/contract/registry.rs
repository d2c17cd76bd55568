use std::sync::Arc;

use writeback_relay::clock::{System, UnixTime};
use writeback_relay::protocol::api::{AgentStatus, PreflightReport};
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::ids::{AgentId, InvitationId, JournalId, ObjectId, TenantId};
use writeback_relay::protocol::jose::{SealingKey, SigningKey};
use writeback_relay::protocol::limits;
use writeback_relay::protocol::rotation::{About, AgentRotation, PortalKey, PortalRotation};
use writeback_relay::relay::embedded::EmbeddedRegistry;
use writeback_relay::relay::registry::{
    Added, AgentRecord, InvitationRecord, PortalRecord, Redeemed, Registry, Rotated, TenantRecord,
};
use writeback_relay::telemetry::metrics::Metrics;

use super::stores::{Ground, on_every_backend};
use super::{agent, tenant};

on_every_backend! {
    an_invitation_is_redeemed_by_one_agent_and_by_the_same_again
    a_tombstone_stays
    what_is_exported_restores_an_empty_registry
    tenants_do_not_see_each_others_agents_even_with_one_name_beginning_as_the_other
    an_assertion_is_used_once_until_it_has_expired_anyway
    an_agents_keys_change_only_along_a_chain_that_they_have_signed
    of_two_rotations_from_the_same_keys_one_is_followed
    a_portals_old_key_goes_when_it_says_so_and_the_last_one_stays
    an_agent_redeems_the_code_of_a_further_portal_with_the_keys_it_has
    what_an_agent_says_about_itself_is_kept_and_changes_nothing_else
}

pub(super) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(super) const LATER: UnixTime = UnixTime(1_800_000_100);

fn keys() -> AgentKeys {
    AgentKeys {
        signing: SigningKey::generate(&System).unwrap().public().clone(),
        sealing: SealingKey::generate().unwrap().public().clone(),
    }
}

pub(super) fn invitation() -> InvitationRecord {
    InvitationRecord {
        invitation: InvitationId::new(&System, &System),
        portal: "portal-1".parse().unwrap(),
        token_sha256: "token".into(),
        expires_at: LATER,
        redeemed_by: None,
    }
}

pub(super) fn pending(agent: AgentId, invitation: &InvitationRecord) -> AgentRecord {
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
    let report = PreflightReport { checked_at: NOW, rows: Vec::new(), domains: Vec::new() };
    registry.note_version(&tenant("a"), record.agent, "1.2.3").await.unwrap();
    registry.note_preflight(&tenant("a"), record.agent, report.clone()).await.unwrap();
    let expected = AgentRecord { version: Some("1.2.3".into()), preflight: Some(report), ..record.clone() };
    assert_eq!(registry.agent(&tenant("a"), record.agent).await.unwrap(), Some(expected));
}

pub(super) const RELAY: &str = "https://relay.example";

pub(super) struct Pair {
    signing: SigningKey,
    public: AgentKeys,
}

pub(super) fn pair() -> Pair {
    let signing = SigningKey::generate(&System).unwrap();
    let sealing = SealingKey::generate().unwrap().public().clone();
    Pair { public: AgentKeys { signing: signing.public().clone(), sealing }, signing }
}

fn about<I>(iss: I, tenant: Option<TenantId>) -> About<I> {
    About { iss, relay: RELAY.into(), tenant, jti: ObjectId::new(&System, &System), iat: NOW }
}

/// A rotation from these keys to those, and its JWS.
pub(super) fn step(agent: AgentId, name: &str, from: &Pair, to: &Pair, seq: u64) -> (AgentRotation, String) {
    let about = about(agent, Some(tenant(name)));
    let rotation = AgentRotation::new(about, seq, from.public.clone(), to.public.clone(), &to.signing).unwrap();
    let jws = rotation.sign(&from.signing).unwrap();
    (rotation, jws)
}

pub(super) async fn enrolled_with(registry: &dyn Registry, name: &str, keys: &Pair) -> AgentRecord {
    let invitation = invitation();
    registry.add_invitation(&tenant(name), invitation.clone()).await.unwrap();
    let record = AgentRecord { keys: keys.public.clone(), ..pending(agent(), &invitation) };
    registry.redeem(&tenant(name), "token", record.clone(), NOW).await.unwrap();
    record
}

async fn an_agents_keys_change_only_along_a_chain_that_they_have_signed(ground: Ground) {
    let registry = ground.registry().await;
    let (t, keys) = (tenant("a"), [pair(), pair(), pair()]);
    let [first, second, third] = &keys;
    let id = enrolled_with(&*registry, "a", first).await.agent;
    let rotate = async |(rotation, jws): &(AgentRotation, String)| {
        registry.rotate_agent(&t, RELAY, rotation, jws).await.unwrap()
    };
    let (one, two) = (step(id, "a", first, second, 1), step(id, "a", second, third, 2));
    assert!(matches!(rotate(&two).await, Rotated::Refused(_)), "it begins at another key");
    assert_eq!(rotate(&one).await, Rotated::Done);
    assert_eq!(rotate(&one).await, Rotated::Done, "the same again");
    assert!(matches!(rotate(&step(id, "a", second, third, 1)).await, Rotated::Refused(_)), "an old number");
    assert!(matches!(rotate(&step(id, "b", second, third, 2)).await, Rotated::Refused(_)), "another tenant's");
    assert_eq!(rotate(&two).await, Rotated::Done);
    assert_eq!(rotate(&one).await, Rotated::Passed, "it is over");
    let record = registry.agent(&t, id).await.unwrap().unwrap();
    assert_eq!((&record.keys, record.later.seq), (&third.public, 2));
    assert_eq!(record.later.rotations, [one.1, two.1]);

    assert_eq!(rotate(&step(agent(), "a", third, first, 3)).await, Rotated::Unknown);
    registry.revoke(&t, id).await.unwrap();
    assert_eq!(rotate(&step(id, "a", third, first, 3)).await, Rotated::Revoked);
}

async fn of_two_rotations_from_the_same_keys_one_is_followed(ground: Ground) {
    let registry = ground.registry().await;
    let (t, first) = (tenant("a"), pair());
    let id = enrolled_with(&*registry, "a", &first).await.agent;
    let steps: Vec<_> = (0..4).map(|_| step(id, "a", &first, &pair(), 1)).collect();
    let rotations = steps.iter().map(|(rotation, jws)| registry.rotate_agent(&t, RELAY, rotation, jws));
    let ended = futures_util::future::join_all(rotations).await;
    let done: Vec<_> = ended.into_iter().map(|ended| ended.unwrap() == Rotated::Done).collect();
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    let followed = &steps[done.iter().position(|done| *done).unwrap()].0;
    assert_eq!(registry.agent(&t, id).await.unwrap().unwrap().keys, followed.keys);
}

async fn a_portals_old_key_goes_when_it_says_so_and_the_last_one_stays(ground: Ground) {
    let registry = ground.registry().await;
    let (id, old, new) = ("portal-1".parse().unwrap(), pair().signing, pair().signing);
    let key = |key: &SigningKey| PortalKey { signing: key.public().clone() };
    let (keys, tenants) = (vec![old.public().clone()], vec![tenant("a")]);
    let record = PortalRecord { portal: "portal-1".parse().unwrap(), keys, tenants, later: Default::default() };
    let rotation = PortalRotation::new(about(record.portal.clone(), None), 1, key(&old), key(&new), &new).unwrap();
    let jws = rotation.sign(&old).unwrap();
    assert_eq!(registry.rotate_portal(RELAY, &rotation, &jws).await.unwrap(), Rotated::Unknown);
    registry.put_portal(record.clone()).await.unwrap();
    assert!(!registry.retire_portal_key(&id, old.kid(), NOW).await.unwrap(), "its last one");
    for _ in 0..2 {
        assert_eq!(registry.rotate_portal(RELAY, &rotation, &jws).await.unwrap(), Rotated::Done);
    }
    let both = registry.portal(&id).await.unwrap().unwrap();
    assert_eq!((both.keys_at(NOW).count(), both.later.seq), (2, 1));
    // An operator who grants a tenant with the old key at hand does not undo it.
    assert_eq!(record.clone().put_over(&both).keys, both.keys);
    let stranger = PortalRecord { keys: vec![pair().public.signing], ..record };
    assert_eq!(stranger.clone().put_over(&both), stranger);
    for _ in 0..2 {
        assert!(registry.retire_portal_key(&id, old.kid(), NOW).await.unwrap());
    }
    let one = registry.portal(&id).await.unwrap().unwrap();
    assert_eq!(one.keys_at(NOW).count(), 2, "what it has signed may be on its way");
    assert_eq!(one.keys_at(NOW.plus(limits::KEY_OVERLAP)).collect::<Vec<_>>(), [new.public()]);
}

async fn an_agent_redeems_the_code_of_a_further_portal_with_the_keys_it_has(ground: Ground) {
    let registry = ground.registry().await;
    let (t, record) = (tenant("a"), enrolled(&*registry, "a").await);
    let further = InvitationRecord { portal: "portal-2".parse().unwrap(), token_sha256: "2".into(), ..invitation() };
    registry.add_invitation(&t, further.clone()).await.unwrap();
    let again = AgentRecord { invitation: further.invitation, attestation: "2.2.2".into(), ..record.clone() };
    let impostor = AgentRecord { keys: keys(), ..again.clone() };
    assert_eq!(registry.redeem(&t, "2", impostor, NOW).await.unwrap(), Redeemed::Taken);
    for _ in 0..2 {
        let redeemed = registry.redeem(&t, "2", again.clone(), NOW).await.unwrap();
        assert!(matches!(redeemed, Redeemed::Enrolled { portal, .. } if portal == further.portal));
    }
    let stored = registry.agent(&t, record.agent).await.unwrap().unwrap();
    assert_eq!(stored.vouched_to(&further.portal), (further.invitation, "2.2.2"));
    assert_eq!(stored.vouched_to(&"portal-1".parse().unwrap()), (record.invitation, "a.b.c"));
    assert_eq!(AgentRecord { later: Default::default(), ..stored }, record, "and nothing else has changed");
}

#[tokio::test]
async fn a_rotation_that_changes_nothing_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let opened = EmbeddedRegistry::open(&folder.path().join("registry.redb")).await.unwrap();
    let registry = opened.timed(Arc::clone(&metrics));
    let (t, [first, second, third]) = (tenant("a"), [pair(), pair(), pair()]);
    let id = enrolled_with(&registry, "a", &first).await.agent;
    let portal = PortalRecord {
        portal: "portal-1".parse().unwrap(),
        keys: vec![first.public.signing.clone()],
        tenants: vec![t.clone()],
        later: Default::default(),
    };
    registry.put_portal(portal.clone()).await.unwrap();
    let writes = || {
        let rendered = metrics.render().unwrap();
        let mut lines = rendered.lines().filter(|line| line.contains("_count") && line.contains("\"registry\""));
        let (line, None) = (lines.next().unwrap(), lines.next()) else { panic!("{rendered}") };
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = writes();
    let (one, two) = (step(id, "a", &first, &second, 1), step(id, "a", &second, &third, 2));
    let rotate = async |(rotation, jws): &(AgentRotation, String)| {
        registry.rotate_agent(&t, RELAY, rotation, jws).await.unwrap()
    };
    let key = |pair: &Pair| PortalKey { signing: pair.public.signing.clone() };
    let about = about(portal.portal.clone(), None);
    let stray = PortalRotation::new(about, 1, key(&second), key(&third), &third.signing).unwrap();
    let jws = stray.sign(&second.signing).unwrap();
    assert!(matches!(registry.rotate_portal(RELAY, &stray, &jws).await.unwrap(), Rotated::Refused(_)));
    assert!(matches!(rotate(&two).await, Rotated::Refused(_)));
    assert_eq!(rotate(&step(agent(), "a", &first, &second, 1)).await, Rotated::Unknown);
    assert_eq!(writes(), before);
    assert_eq!((rotate(&one).await, rotate(&two).await), (Rotated::Done, Rotated::Done));
    assert_eq!(writes(), before + 2);
    assert_eq!((rotate(&one).await, rotate(&two).await), (Rotated::Passed, Rotated::Done));
    registry.revoke(&t, id).await.unwrap();
    assert_eq!(rotate(&one).await, Rotated::Revoked);
    assert_eq!(writes(), before + 3);
}
