use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::ids::{InstanceId, PortalId};
use writeback_relay::relay::bus::{Bus, Claim, Delivery, Departure, Notice, Place, Presence, Sighting};
use writeback_relay::relay::embedded::EmbeddedBus;
use writeback_relay::relay::ids::SessionId;
use writeback_relay::relay::ledger::{Entry, Intent};
use writeback_relay::relay::redis::keys;

use super::ledger::{T, command};
use super::nodes::{Judgement, Node, new_node};
use super::stores::{Ground, link, on_every_backend, on_every_redis};
use super::{StandingClock, agent, tenant};
use crate::support::{deadline, eventually};

on_every_backend! {
    a_newer_process_displaces_an_older_one_and_never_the_other_way_round
    a_session_that_makes_itself_known_again_displaces_nobody
    of_a_process_that_opens_too_many_sessions_the_oldest_gives_way
    a_session_may_make_itself_known_again_and_stays_one
    a_release_removes_that_session_and_leaves_the_others
    whom_an_agent_trusts_is_what_its_newest_session_has_said_last
    an_agent_is_on_its_way_back_if_its_connection_was_lost_and_not_if_it_has_left
    a_command_for_a_session_of_this_node_is_handed_to_it
    a_node_that_tells_is_told_too
}

mod between_nodes {
    use super::*;

    on_every_redis! {
        another_node_is_asked_and_its_answer_comes_back
        a_commands_end_is_an_answer_too
        a_node_that_does_not_answer_may_have_the_command
        a_command_that_is_not_genuine_is_not_delivered
        every_node_hears_what_all_must_know_and_one_what_is_for_one
        sessions_of_a_node_whose_lease_is_over_are_not_there_and_come_back_with_it
        a_node_that_was_away_removes_nothing_but_its_own
        what_is_remembered_of_an_agent_is_repaired_by_asking
        whom_an_agent_trusts_is_known_at_every_node
    }

    use super::{
        a_command_that_is_not_genuine_is_not_delivered, a_commands_end_is_an_answer_too,
        a_node_that_does_not_answer_may_have_the_command, a_node_that_was_away_removes_nothing_but_its_own,
        another_node_is_asked_and_its_answer_comes_back, every_node_hears_what_all_must_know_and_one_what_is_for_one,
        sessions_of_a_node_whose_lease_is_over_are_not_there_and_come_back_with_it,
        what_is_remembered_of_an_agent_is_repaired_by_asking, whom_an_agent_trusts_is_known_at_every_node,
    };
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
        trusts: None,
    }
}

fn entry(of: &Presence) -> Entry {
    Entry::new(command(&of.tenant, of.agent), Intent::Deliver(of.session), false, T)
}

fn sessions(places: Vec<Place>) -> Vec<SessionId> {
    places.into_iter().map(|place| place.session).collect()
}

async fn a_newer_process_displaces_an_older_one_and_never_the_other_way_round(ground: Ground) {
    let Node { bus, .. } = Node::on(&ground).await;
    let old = first();
    let later = StandingClock::new();
    later.advance_ms(10);
    let new = presence(&old, InstanceId::new(&*later, &System));
    assert_eq!(bus.claim(&old).await.unwrap(), Claim::Held { displaced: vec![], surplus: vec![] });
    let Claim::Held { displaced, .. } = bus.claim(&new).await.unwrap() else { panic!("the newer one holds it") };
    assert_eq!(sessions(displaced), vec![old.session]);
    assert_eq!(bus.claim(&presence(&old, old.instance)).await.unwrap(), Claim::Newer);
    assert_eq!(sessions(bus.places(&old.tenant, old.agent).await.unwrap()), vec![new.session]);
}

async fn a_session_that_makes_itself_known_again_displaces_nobody(ground: Ground) {
    let Node { bus, .. } = Node::on(&ground).await;
    let one = first();
    let four = [one.clone(), presence(&one, one.instance), presence(&one, one.instance), presence(&one, one.instance)];
    for session in four.iter().chain(&four) {
        assert_eq!(bus.claim(session).await.unwrap(), Claim::Held { displaced: vec![], surplus: vec![] });
    }
    assert_eq!(bus.places(&one.tenant, one.agent).await.unwrap().len(), 4);
}

async fn of_a_process_that_opens_too_many_sessions_the_oldest_gives_way(ground: Ground) {
    let (clock, Node { bus, .. }) = (StandingClock::new(), Node::on(&ground).await);
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
    let held = |surplus| Claim::Held { displaced: vec![], surplus };
    assert_eq!(displaced, [held(vec![]), held(vec![]), held(vec![]), held(vec![]), held(vec![oldest])]);
}

async fn a_session_may_make_itself_known_again_and_stays_one(ground: Ground) {
    let (clock, Node { bus, .. }) = (StandingClock::new(), Node::on(&ground).await);
    let one = first();
    bus.claim(&one).await.unwrap();
    clock.advance_ms(1);
    let two = presence(&one, one.instance);
    bus.claim(&two).await.unwrap();
    for _ in 0..4 {
        assert_eq!(bus.claim(&one).await.unwrap(), Claim::Held { displaced: vec![], surplus: vec![] });
    }
    assert_eq!(bus.places(&one.tenant, one.agent).await.unwrap().len(), 2);
    clock.advance_ms(10);
    bus.claim(&presence(&one, InstanceId::new(&*clock, &System))).await.unwrap();
    assert_eq!(bus.claim(&two).await.unwrap(), Claim::Newer, "a newer process has come meanwhile");
}

async fn a_release_removes_that_session_and_leaves_the_others(ground: Ground) {
    let Node { bus, .. } = Node::on(&ground).await;
    let one = first();
    let two = presence(&one, one.instance);
    bus.claim(&one).await.unwrap();
    bus.claim(&two).await.unwrap();
    assert_eq!(sessions(bus.places(&one.tenant, one.agent).await.unwrap()), vec![two.session, one.session]);
    bus.release(&two, Departure::Lost).await.unwrap();
    bus.release(&two, Departure::Lost).await.unwrap();
    assert_eq!(sessions(bus.places(&one.tenant, one.agent).await.unwrap()), vec![one.session]);
    bus.release(&one, Departure::Lost).await.unwrap();
    assert_eq!(bus.places(&one.tenant, one.agent).await.unwrap(), vec![]);
}

async fn whom_an_agent_trusts_is_what_its_newest_session_has_said_last(ground: Ground) {
    let (clock, Node { bus, .. }) = (StandingClock::new(), Node::on(&ground).await);
    let portals =
        |names: &[&str]| -> Option<Vec<PortalId>> { Some(names.iter().map(|name| name.parse().unwrap()).collect()) };
    let trusts = async |portal: &str, of: &Presence| {
        Sighting::trusts(&bus.sightings(&of.tenant, of.agent).await.unwrap(), &portal.parse().unwrap())
    };
    let at = |session, trusts| Presence { session, trusts, ..first() };
    let one = at(SessionId::new(&*clock, &System), None);
    assert_eq!(trusts("portal-1", &one).await, None, "it is not here");
    bus.claim(&one).await.unwrap();
    assert_eq!(trusts("portal-1", &one).await, None, "it does not say");
    clock.advance_ms(1);
    let two = Presence { session: SessionId::new(&*clock, &System), trusts: portals(&["portal-1"]), ..one.clone() };
    bus.claim(&two).await.unwrap();
    assert_eq!((trusts("portal-1", &one).await, trusts("portal-2", &one).await), (Some(true), Some(false)));
    bus.claim(&Presence { trusts: portals(&["portal-2"]), ..two.clone() }).await.unwrap();
    assert_eq!((trusts("portal-1", &one).await, trusts("portal-2", &one).await), (Some(false), Some(true)));
    bus.claim(&Presence { trusts: portals(&["portal-1"]), ..one.clone() }).await.unwrap();
    assert_eq!(trusts("portal-1", &one).await, Some(false), "the newest session has said otherwise");
    bus.release(&two, Departure::Lost).await.unwrap();
    assert_eq!(trusts("portal-1", &one).await, Some(true));
}

async fn an_agent_is_on_its_way_back_if_its_connection_was_lost_and_not_if_it_has_left(ground: Ground) {
    let Node { bus, .. } = Node::on(&ground).await;
    let one = first();
    bus.claim(&one).await.unwrap();
    bus.release(&one, Departure::Lost).await.unwrap();
    let left = bus.may_return(&one.tenant, one.agent).await.unwrap().unwrap();
    assert!(left > Duration::from_secs(20) && left <= Duration::from_secs(30), "{left:?}");
    bus.claim(&one).await.unwrap();
    bus.release(&one, Departure::Left).await.unwrap();
    assert_eq!(bus.may_return(&one.tenant, one.agent).await.unwrap(), None, "it said that it leaves");
    assert_eq!(bus.may_return(&tenant("b"), one.agent).await.unwrap(), None, "another tenant's agent never was");
}

async fn a_command_for_a_session_of_this_node_is_handed_to_it(ground: Ground) {
    let node = Node::on(&ground).await;
    let one = first();
    node.bus.claim(&one).await.unwrap();
    let place = node.bus.nearest(&one.tenant, one.agent).await.unwrap().unwrap();
    assert_eq!(place, Place { node: node.bus.node(), session: one.session });
    for answer in [Delivery::Queued, Delivery::Busy, Delivery::Gone] {
        *node.told.answer.lock().unwrap() = answer;
        let entry = entry(&one);
        assert_eq!(node.bus.deliver(place, entry.clone()).await.unwrap(), answer);
        assert_eq!(node.told.delivered.lock().unwrap().pop(), Some((one.session, entry)));
    }
}

async fn a_node_that_tells_is_told_too(ground: Ground) {
    let node = Node::on(&ground).await;
    let notice = Notice::Revoked(tenant("a"), agent());
    node.bus.tell(notice.clone()).await.unwrap();
    assert_eq!(node.notices(), vec![notice]);
}

/// Two nodes, and an agent at the second.
struct Two {
    asking: Node,
    holding: Node,
    agent: Presence,
    place: Place,
}

impl Two {
    async fn on(ground: &Ground) -> Self {
        let (asking, holding) = (Node::on(ground).await, Node::on(ground).await);
        let agent = first();
        holding.bus.claim(&agent).await.unwrap();
        let place = asking.bus.nearest(&agent.tenant, agent.agent).await.unwrap().unwrap();
        assert_eq!(place, Place { node: holding.bus.node(), session: agent.session });
        Self { asking, holding, agent, place }
    }

    async fn places(&self) -> Vec<Place> {
        self.asking.bus.places(&self.agent.tenant, self.agent.agent).await.unwrap()
    }

    async fn deliver(&self) -> Delivery {
        deadline("a delivery", self.asking.bus.deliver(self.place, entry(&self.agent))).await.unwrap()
    }
}

async fn another_node_is_asked_and_its_answer_comes_back(ground: Ground) {
    let two = Two::on(&ground).await;
    for answer in [Delivery::Queued, Delivery::Busy, Delivery::Gone] {
        *two.holding.told.answer.lock().unwrap() = answer;
        assert_eq!(two.deliver().await, answer);
    }
    let delivered = two.holding.told.delivered.lock().unwrap();
    assert_eq!(delivered.len(), 3);
    assert!(delivered.iter().all(|(session, entry)| *session == two.agent.session && entry.jws.is_some()));
}

async fn whom_an_agent_trusts_is_known_at_every_node(ground: Ground) {
    let two = Two::on(&ground).await;
    let portal: PortalId = "portal-1".parse().unwrap();
    for (trusts, expected) in [(Some(vec![]), Some(false)), (Some(vec![portal.clone()]), Some(true)), (None, None)] {
        two.holding.bus.claim(&Presence { trusts, ..two.agent.clone() }).await.unwrap();
        for bus in [&two.asking.bus, &two.holding.bus] {
            let seen = bus.sightings(&two.agent.tenant, two.agent.agent).await.unwrap();
            assert_eq!(Sighting::trusts(&seen, &portal), expected);
        }
    }
}

async fn a_commands_end_is_an_answer_too(ground: Ground) {
    let two = Two::on(&ground).await;
    let first = Entry { origin: Some(two.asking.bus.node()), ..entry(&two.agent) };
    let (bus, place, sent) = (Arc::clone(&two.asking.bus), two.place, first.clone());
    let delivering = tokio::spawn(async move { bus.deliver(place, sent).await.unwrap() });
    eventually("it is delivered", async || !two.holding.told.delivered.lock().unwrap().is_empty()).await;
    let ended = Notice::Ended(Box::new(first));
    two.holding.bus.tell(ended.clone()).await.unwrap();
    assert_eq!(deadline("the delivery", delivering).await.unwrap(), Delivery::Queued);
    two.asking.hears(&ended).await;
    // A second question, and an answer that waits for an end as the first one would have: by then that would be sent.
    let next = Entry { origin: Some(two.asking.bus.node()), ..entry(&two.agent) };
    assert_eq!(two.asking.bus.deliver(two.place, next).await.unwrap(), Delivery::Queued);
    let sent = two.holding.counted("writeback_redis_round_trips_total{purpose=\"message\"}");
    assert_eq!(sent, 2, "the end, and the answer to the second question");
}

async fn a_node_that_does_not_answer_may_have_the_command(ground: Ground) {
    let two = Two::on(&ground).await;
    two.holding.judgement.send_replace(Judgement::Pending);
    assert_eq!(two.deliver().await, Delivery::NoAnswer);
    // It is still there for those who have nothing better.
    assert_eq!(two.places().await, vec![two.place]);
    two.holding.judgement.send_replace(Judgement::Genuine);
    assert_eq!(two.deliver().await, Delivery::Queued, "a late answer is not taken for another question's");
    // One that nobody listens for has not got it.
    let Two { asking, holding, place, agent } = two;
    drop(holding);
    eventually("the node is found to be gone", async || {
        asking.bus.deliver(place, entry(&agent)).await.unwrap() == Delivery::Gone
    })
    .await;
}

async fn a_command_that_is_not_genuine_is_not_delivered(ground: Ground) {
    let two = Two::on(&ground).await;
    two.holding.judgement.send_replace(Judgement::Forged);
    assert_eq!(two.deliver().await, Delivery::Gone);
    assert!(two.holding.told.delivered.lock().unwrap().is_empty());
}

async fn every_node_hears_what_all_must_know_and_one_what_is_for_one(ground: Ground) {
    let nodes = [Node::on(&ground).await, Node::on(&ground).await, Node::on(&ground).await];
    let [one, two, three] = &nodes;
    let place = Place { node: two.bus.node(), session: first().session };
    let ended = Entry { origin: Some(three.bus.node()), ..entry(&first()) };
    let (displaced, ended) = (Notice::Displaced(place), Notice::Ended(Box::new(ended)));
    let changed = Notice::PortalChanged("portal-1".parse().unwrap());
    let revoked = Notice::Revoked(tenant("a"), agent());
    let check = Notice::Check(place);
    for notice in [&displaced, &check, &ended, &changed, &revoked] {
        one.bus.tell(notice.clone()).await.unwrap();
    }
    for node in &nodes {
        node.hears(&revoked).await;
        node.hears(&changed).await;
    }
    two.hears(&displaced).await;
    two.hears(&check).await;
    three.hears(&ended).await;
    assert_eq!([two.notices().len(), three.notices().len()], [4, 3], "and nothing else");
}

async fn sessions_of_a_node_whose_lease_is_over_are_not_there_and_come_back_with_it(ground: Ground) {
    let two = Two::on(&ground).await;
    let link = link(ground.redis().unwrap()).await;
    let lease = keys::node(two.place.node);
    let nearest = async || two.asking.bus.nearest(&two.agent.tenant, two.agent.agent).await.unwrap();
    // As if it had not renewed it for so long; it does so again in a moment.
    eventually("the lease is over", async || {
        link.command::<()>(&Cmd::del(&lease)).await.unwrap();
        two.places().await.is_empty() && nearest().await.is_none()
    })
    .await;
    eventually("the node is back", async || two.places().await == [two.place]).await;
    // One that goes gives it back itself.
    two.holding.redis.as_ref().unwrap().retire().await.unwrap();
    let Two { asking, holding, agent, .. } = two;
    drop(holding);
    eventually("the node has gone", async || asking.bus.places(&agent.tenant, agent.agent).await.unwrap().is_empty())
        .await;
}

async fn a_node_that_was_away_removes_nothing_but_its_own(ground: Ground) {
    let two = Two::on(&ground).await;
    let later = StandingClock::new();
    later.advance_ms(10);
    // Meanwhile the agent's next process has come to the other node.
    let new = presence(&two.agent, InstanceId::new(&*later, &System));
    let Claim::Held { displaced, .. } = two.asking.bus.claim(&new).await.unwrap() else { panic!("it is newer") };
    assert_eq!(displaced, vec![two.place]);
    two.holding.bus.release(&two.agent, Departure::Lost).await.unwrap();
    assert_eq!(two.holding.bus.claim(&two.agent).await.unwrap(), Claim::Newer);
    let here = Place { node: two.asking.bus.node(), session: new.session };
    assert_eq!(two.places().await, vec![here]);
    let seen = two.holding.bus.places(&new.tenant, new.agent).await.unwrap();
    assert_eq!(seen, vec![here], "its own session is no longer there for itself either");
}

async fn what_is_remembered_of_an_agent_is_repaired_by_asking(ground: Ground) {
    let two = Two::on(&ground).await;
    let third = Node::on(&ground).await;
    let moved = presence(&two.agent, two.agent.instance);
    third.bus.claim(&moved).await.unwrap();
    two.holding.bus.release(&two.agent, Departure::Lost).await.unwrap();
    let nearest = async || two.asking.bus.nearest(&moved.tenant, moved.agent).await.unwrap();
    assert_eq!(nearest().await, Some(two.place), "nobody has said anything");
    *two.holding.told.answer.lock().unwrap() = Delivery::Gone;
    assert_eq!(two.deliver().await, Delivery::Gone);
    let there = Place { node: third.bus.node(), session: moved.session };
    assert_eq!(two.places().await, vec![there]);
    assert_eq!(nearest().await, Some(there));
}

#[tokio::test]
async fn an_agent_that_has_not_come_back_in_half_a_minute_is_gone_for_good() {
    let clock = StandingClock::new();
    let bus = EmbeddedBus::new(new_node(), "node".to_owned(), Arc::clone(&clock) as Arc<dyn Clock>);
    let one = first();
    bus.claim(&one).await.unwrap();
    bus.release(&one, Departure::Lost).await.unwrap();
    clock.advance_ms(29_999);
    assert!(bus.may_return(&one.tenant, one.agent).await.unwrap().is_some());
    clock.advance_ms(1);
    assert_eq!(bus.may_return(&one.tenant, one.agent).await.unwrap(), None);
}
