use super::*;

fn connections(all: usize, address: u32, portal: u32) -> (Arc<Connections>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    (Connections::new(Bounds::new(all, None, address, portal), Arc::clone(&metrics)), metrics)
}

/// Somebody whom the node has looked at long ago.
fn from(connections: &Arc<Connections>, address: &str) -> Result<(Place, CancellationToken), Limit> {
    let come = just_come(connections, address)?;
    come.0.is_looked_at();
    come.0.update(|newcomer| newcomer.age(AT_ONCE));
    Ok(come)
}

fn just_come(connections: &Arc<Connections>, address: &str) -> Result<(Place, CancellationToken), Limit> {
    let (place, evicted) = connections.admit_now()?;
    place.identify(address.parse().unwrap())?;
    Ok((place, evicted))
}

fn hits(metrics: &Metrics, limit: &str) -> String {
    let series = format!("writeback_limits_hits_total{{limit=\"{limit}\"}} ");
    metrics.render().unwrap().lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned)).unwrap()
}

#[test]
fn a_newcomer_takes_the_place_of_the_oldest_that_keeps_the_node_waiting_at_the_address_that_has_the_most() {
    // A quarter may be without a credential: four.
    let (connections, metrics) = connections(16, 100, 100);
    let crowd: Vec<_> = (0..3).map(|_| from(&connections, "192.0.2.1").unwrap()).collect();
    let neighbour = from(&connections, "192.0.2.2").unwrap();
    let newcomer = from(&connections, "192.0.2.3").unwrap();
    assert!(crowd[0].1.is_cancelled() && !crowd[1].1.is_cancelled() && !neighbour.1.is_cancelled());
    let _working = crowd[1].0.served();
    let another = from(&connections, "192.0.2.4").unwrap();
    assert!(!crowd[1].1.is_cancelled() && crowd[2].1.is_cancelled(), "who is served keeps his place");
    assert!(!neighbour.1.is_cancelled() && !newcomer.1.is_cancelled() && !another.1.is_cancelled());
    assert_eq!(hits(&metrics, "unauthenticated_connections"), "2");
}

#[test]
fn among_addresses_that_have_as_many_the_oldest_connection_makes_room() {
    let (connections, _) = connections(16, 100, 100);
    let held = ["192.0.2.9", "192.0.2.1", "192.0.2.5", "192.0.2.3"].map(|address| from(&connections, address).unwrap());
    let _newcomers = ["192.0.2.2", "192.0.2.8"].map(|address| from(&connections, address).unwrap());
    assert_eq!(held.map(|(_, evicted)| evicted.is_cancelled()), [true, true, false, false]);
}

#[test]
fn where_all_are_served_a_newcomer_is_turned_away() {
    let (connections, _) = connections(8, 100, 100);
    let held = [from(&connections, "192.0.2.1").unwrap(), from(&connections, "192.0.2.1").unwrap()];
    let served: Vec<_> = held.iter().map(|(place, _)| place.served()).collect();
    assert_eq!(from(&connections, "192.0.2.2").err(), Some(Limit::UnauthenticatedConnections));
    drop(served);
    held[0].0.update(|newcomer| newcomer.age(AT_ONCE));
    assert!(from(&connections, "192.0.2.2").is_ok() && held[0].1.is_cancelled());
}

#[test]
fn whoever_has_been_answered_makes_room_after_those_who_have_said_nothing() {
    let (connections, _) = connections(8, 100, 100);
    let held = [from(&connections, "192.0.2.1").unwrap(), from(&connections, "192.0.2.2").unwrap()];
    drop(held[0].0.served());
    held[0].0.update(|newcomer| newcomer.age(AT_ONCE));
    let second = from(&connections, "192.0.2.3").unwrap();
    assert!(!held[0].1.is_cancelled() && held[1].1.is_cancelled(), "its answer may be under way");
    second.0.served();
    second.0.update(|newcomer| newcomer.age(AT_ONCE));
    let third = from(&connections, "192.0.2.4").unwrap();
    assert!(held[0].1.is_cancelled() && !second.1.is_cancelled() && !third.1.is_cancelled(), "the oldest of them");
}

#[tokio::test]
async fn a_newcomer_waits_until_the_node_has_looked_at_those_before_him_but_not_for_long() {
    let (connections, metrics) = connections(8, 100, 100);
    let held = [just_come(&connections, "192.0.2.1").unwrap(), just_come(&connections, "192.0.2.2").unwrap()];
    assert_eq!(connections.admit().await.err(), Some(Limit::UnauthenticatedConnections), "none is looked at");
    assert_eq!(hits(&metrics, "unauthenticated_connections"), "1");
    let (newcomer, ()) = tokio::join!(connections.admit(), async { held[1].0.is_looked_at() });
    assert!(newcomer.is_ok() && !held[0].1.is_cancelled() && held[1].1.is_cancelled());
    let (another, ()) = tokio::join!(connections.admit(), async { drop(held) });
    assert!(another.is_ok());
}

#[test]
fn an_address_makes_room_for_its_own_newcomers_alone() {
    let (connections, metrics) = connections(400, 2, 100);
    let [host, same, other] =
        ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|address| from(&connections, address));
    let third = from(&connections, "2001:db8::3").unwrap();
    assert!(host.unwrap().1.is_cancelled() && !same.unwrap().1.is_cancelled() && !other.unwrap().1.is_cancelled());
    assert!(!third.1.is_cancelled());
    assert_eq!(hits(&metrics, "address_connections"), "1");
}

#[test]
fn whoever_has_shown_a_credential_is_not_closed_and_half_of_all_places_are_left_to_agents() {
    let (connections, metrics) = connections(16, 100, 3);
    let (one, other): (PortalId, PortalId) = ("one".parse().unwrap(), "other".parse().unwrap());
    let portals = |portal: &PortalId, number: usize| {
        let come = (0..number).map(|_| {
            let (place, evicted) = from(&connections, "192.0.2.1").unwrap();
            place.is_portals(portal).map(|()| (place, evicted))
        });
        come.collect::<Vec<_>>()
    };
    let of_one = portals(&one, 4);
    assert!(of_one[..3].iter().all(Result::is_ok) && of_one[3].is_err(), "three for each portal");
    let of_other = portals(&other, 2);
    assert!(of_other[0].is_ok() && of_other[1].is_err(), "a quarter for all of them");
    assert_eq!(hits(&metrics, "portal_connections"), "2");
    let agents: Vec<_> = (0..12)
        .map(|_| {
            let (place, evicted) = from(&connections, "192.0.2.1").unwrap();
            place.is_agents();
            (place, evicted)
        })
        .collect();
    assert_eq!(connections.admit_now().err(), Some(Limit::Connections), "sixteen in all");
    assert!(of_one.iter().chain(&of_other).flatten().chain(&agents).all(|(_, evicted)| !evicted.is_cancelled()));
    drop((of_one, of_other, agents));
    let table = connections.table.lock();
    assert!(table.all == 0 && table.of_portals == 0 && table.portals.is_empty(), "what is gone is forgotten");
    let unauthenticated = &table.unauthenticated;
    assert!(unauthenticated.is_empty());
}

#[test]
fn places_follow_from_files_and_from_memory() {
    let bounds = |files, memory| {
        let Bounds { all, unauthenticated, .. } = Bounds::new(files, memory, 1, 1);
        (all, unauthenticated)
    };
    assert_eq!(bounds(768, None), (768, 192));
    assert_eq!(bounds(1_048_320, Some(512 << 20)), (32_768, 1024));
    assert_eq!(bounds(1_048_320, Some(24 << 30)), (1_048_320, 49_152));
    assert_eq!(bounds(0, Some(0)), (4, 1), "a node is never without any");
}
