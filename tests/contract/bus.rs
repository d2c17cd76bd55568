use std::sync::{Arc, Mutex};

use writeback_relay::clock::System;
use writeback_relay::protocol::ids::{InstanceId, ObjectId};
use writeback_relay::relay::bus::{Bus, Claim, Delivery, Departure, Inbox, Notice, Place, Presence};
use writeback_relay::relay::embedded::EmbeddedBus;
use writeback_relay::relay::ids::{NodeId, SessionId};
use writeback_relay::relay::ledger::Entry;

use super::{StandingClock, agent, tenant};

/// What a node was told.
#[derive(Default)]
struct Told(Mutex<Vec<Notice>>);

impl Inbox for Told {
    fn deliver(&self, _: SessionId, _: Entry) -> Delivery {
        Delivery::Busy
    }

    fn notice(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }

    fn reconcile(&self) {}
}

fn embedded() -> (Arc<StandingClock>, Arc<dyn Bus>) {
    let clock = StandingClock::new();
    let node = NodeId(ObjectId::new(&System, &System));
    (Arc::clone(&clock), Arc::new(EmbeddedBus::new(node, clock)))
}

fn presence(of: &Presence, instance: InstanceId) -> Presence {
    Presence { session: SessionId::new(&System, &System), instance, ..of.clone() }
}

fn first() -> Presence {
    Presence {
        tenant: tenant("a"),
        agent: agent(),
        session: SessionId::new(&System, &System),
        instance: InstanceId::new(&*StandingClock::new(), &System),
    }
}

#[tokio::test]
async fn a_newer_process_displaces_an_older_one_and_never_the_other_way_round() {
    let (_, bus) = embedded();
    let old = first();
    let later = StandingClock::new();
    later.advance_ms(10);
    let new = presence(&old, InstanceId::new(&*later, &System));
    assert_eq!(bus.claim(&old).await.unwrap(), Claim::Held { displaced: vec![] });
    let Claim::Held { displaced } = bus.claim(&new).await.unwrap() else { panic!("the newer one holds it") };
    assert_eq!(displaced.iter().map(|place| place.session).collect::<Vec<_>>(), vec![old.session]);
    assert_eq!(bus.claim(&presence(&old, old.instance)).await.unwrap(), Claim::Newer);
    let places = bus.places(&old.tenant, old.agent).await.unwrap();
    assert_eq!(places.iter().map(|place| place.session).collect::<Vec<_>>(), vec![new.session]);
}

#[tokio::test]
async fn of_a_process_that_opens_too_many_sessions_the_oldest_gives_way() {
    let (clock, bus) = embedded();
    let one = first();
    let mut claims = Vec::new();
    for _ in 0..5 {
        // Ids of one millisecond have no order.
        clock.advance_ms(1);
        let next = Presence { session: SessionId::new(&*clock, &System), ..one.clone() };
        claims.push((next.session, bus.claim(&next).await.unwrap()));
    }
    let oldest = Place { node: bus.node(), session: claims[0].0 };
    let displaced: Vec<_> = claims.into_iter().map(|(_, claim)| claim).collect();
    let held = |displaced| Claim::Held { displaced };
    assert_eq!(displaced, [held(vec![]), held(vec![]), held(vec![]), held(vec![]), held(vec![oldest])]);
}

#[tokio::test]
async fn a_session_may_make_itself_known_again_and_stays_one() {
    let (clock, bus) = embedded();
    let one = first();
    bus.claim(&one).await.unwrap();
    clock.advance_ms(1);
    let two = presence(&one, one.instance);
    bus.claim(&two).await.unwrap();
    for _ in 0..4 {
        assert_eq!(bus.claim(&one).await.unwrap(), Claim::Held { displaced: vec![] });
    }
    assert_eq!(bus.places(&one.tenant, one.agent).await.unwrap().len(), 2);
    let later = StandingClock::new();
    later.advance_ms(10);
    bus.claim(&presence(&one, InstanceId::new(&*later, &System))).await.unwrap();
    assert_eq!(bus.claim(&two).await.unwrap(), Claim::Newer, "a newer process has come meanwhile");
}

#[tokio::test]
async fn a_release_removes_that_session_and_leaves_the_others() {
    let (clock, bus) = embedded();
    let one = first();
    let two = presence(&one, one.instance);
    bus.claim(&one).await.unwrap();
    bus.claim(&two).await.unwrap();
    let sessions = |places: Vec<Place>| places.into_iter().map(|p| p.session).collect::<Vec<_>>();
    assert_eq!(sessions(bus.places(&one.tenant, one.agent).await.unwrap()), vec![two.session, one.session]);
    bus.release(&two, Departure::Lost).await.unwrap();
    bus.release(&two, Departure::Lost).await.unwrap();
    assert_eq!(sessions(bus.places(&one.tenant, one.agent).await.unwrap()), vec![one.session]);
    bus.release(&one, Departure::Lost).await.unwrap();
    assert_eq!(bus.places(&one.tenant, one.agent).await.unwrap(), vec![]);
    assert!(bus.may_return(&one.tenant, one.agent).await.unwrap().is_some());
    clock.advance_ms(30_000);
    assert_eq!(bus.may_return(&one.tenant, one.agent).await.unwrap(), None, "it is gone for good");
    bus.claim(&two).await.unwrap();
    bus.release(&two, Departure::Left).await.unwrap();
    assert_eq!(bus.may_return(&one.tenant, one.agent).await.unwrap(), None, "it said that it leaves");
    assert_eq!(bus.may_return(&tenant("b"), one.agent).await.unwrap(), None, "another tenant's agent never was");
}

#[tokio::test]
async fn every_node_is_told_this_one_too() {
    let (_, bus) = embedded();
    let told = Arc::new(Told::default());
    bus.attach(Arc::clone(&told) as Arc<dyn Inbox>);
    let notice = Notice::Revoked(tenant("a"), agent());
    bus.tell(notice.clone()).await.unwrap();
    assert_eq!(*told.0.lock().unwrap(), vec![notice]);
}
