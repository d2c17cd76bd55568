use std::future::ready;

use futures_util::FutureExt;

use super::*;
use crate::relay::config::LimitsConfig;
use crate::relay::http::connections::{Bounds, Connections};
use crate::telemetry::metrics::Metrics;

fn peer(limits: &LimitsConfig) -> (Arc<Peer>, Limits) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let connections = Connections::new(Bounds::new(100, None, 10, 10), Arc::clone(&metrics));
    let (place, _) = connections.admit().now_or_never().unwrap().unwrap();
    let client = (None, Origin::new(None));
    let place = Some(Arc::new(place));
    let peer = Peer::new(place, [192, 0, 2, 1].into(), client, Instant::now(), CancellationToken::new());
    (peer, Limits::new(limits, true, metrics))
}

fn portal() -> PortalId {
    "portal-1".parse().unwrap()
}

#[tokio::test]
async fn without_a_credential_few_requests_are_looked_at_and_the_others_when_one_has_shown_it() {
    let (peer, limits) = peer(&LimitsConfig::default());
    let mut first = Vec::new();
    for _ in 0..AT_A_TIME {
        first.push(peer.begin(&HeaderMap::new()).await.unwrap());
    }
    let late = peer.begin(&HeaderMap::new()).await;
    assert_eq!(late.err(), Some(TooMany), "nobody has shown one within a second");
    let waiting = tokio::spawn({
        let peer = Arc::clone(&peer);
        async move { peer.begin(&HeaderMap::new()).await.map(drop) }
    });
    tokio::task::yield_now().await;
    first[0].is_portals(&portal(), &limits).unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(()));
    for _ in 0..100 {
        first.push(peer.begin(&HeaderMap::new()).await.unwrap());
    }
}

#[tokio::test]
async fn a_connection_that_is_answered_often_enough_without_a_credential_leaves() {
    let (peer, _) = peer(&LimitsConfig::default());
    for _ in 1..IN_ALL {
        drop(peer.begin(&HeaderMap::new()).await.unwrap());
        assert!(!peer.leaving.is_cancelled());
    }
    drop(peer.begin(&HeaderMap::new()).await.unwrap());
    assert!(peer.leaving.is_cancelled());
    assert_eq!(peer.begin(&HeaderMap::new()).await.err(), Some(TooMany), "though it has not left");
}

#[tokio::test]
async fn a_connection_ends_that_shows_nothing_takes_nothing_or_asks_nothing() {
    let moment = Duration::from_millis(1);
    let due = |peer: &Peer, after, told| peer.due(Instant::now() + after, told);
    let (silent, _) = peer(&LimitsConfig::default());
    assert_eq!(due(&silent, Duration::ZERO, None), None);
    let late = AUTHENTICATION_TIMEOUT + moment;
    assert_eq!(due(&silent, late, None), Some(Due::Closed(Limit::HeaderTimeout)), "it has asked nothing");
    let _asking = silent.begin(&HeaderMap::new()).await.unwrap();
    assert_eq!(due(&silent, late, None), Some(Due::Closed(Limit::AuthenticationTimeout)));

    let (known, limits) = peer(&LimitsConfig::default());
    let exchange = known.begin(&HeaderMap::new()).await.unwrap();
    exchange.is_portals(&portal(), &limits).unwrap();
    assert_eq!(due(&known, IDLE_TIMEOUT * 2, None), None, "an answer that is worked on is waited for");
    let answer = Answer::new(Body::from("an answer"), exchange);
    assert_eq!(due(&known, ANSWER_TIMEOUT - moment, None), None);
    assert_eq!(due(&known, ANSWER_TIMEOUT + moment, None), Some(Due::Closed(Limit::AnswerTimeout)));
    drop(answer);
    assert_eq!(due(&known, ANSWER_TIMEOUT + moment, None), None);
    assert_eq!(due(&known, IDLE_TIMEOUT + moment, None), Some(Due::Idle));
    let told = Some(Instant::now());
    assert_eq!(due(&known, LEAVING_TIMEOUT - moment, told), None, "it has to hear of it first");
    assert_eq!(due(&known, LEAVING_TIMEOUT + moment, told), Some(Due::Closed(Limit::AnswerTimeout)));
}

#[tokio::test]
async fn a_portals_requests_are_counted_until_their_answers_are_taken() {
    let (peer, limits) = peer(&LimitsConfig { portal_requests: 1, requests: 2, ..LimitsConfig::default() });
    let (first, second) = (peer.begin(&HeaderMap::new()).await.unwrap(), peer.begin(&HeaderMap::new()).await.unwrap());
    first.is_portals(&portal(), &limits).unwrap();
    assert_eq!(second.is_portals(&portal(), &limits), Err(Exceeded::PortalRequests));
    let answer = Answer::new(Body::from("an answer"), first);
    assert_eq!(second.is_portals(&portal(), &limits), Err(Exceeded::PortalRequests));
    drop(answer);
    second.is_portals(&portal(), &limits).unwrap();
    let (third, fourth) = (peer.begin(&HeaderMap::new()).await.unwrap(), peer.begin(&HeaderMap::new()).await.unwrap());
    third.is_portals(&"portal-2".parse().unwrap(), &limits).unwrap();
    assert_eq!(fourth.is_portals(&"portal-3".parse().unwrap(), &limits), Err(Exceeded::Requests));
}

#[tokio::test]
async fn what_would_tell_by_its_time_who_is_known_is_told_at_a_time_of_its_own() {
    let (peer, _) = peer(&LimitsConfig::default());
    let exchange = peer.begin(&HeaderMap::new()).await.unwrap();
    let asked = Instant::now();
    assert_eq!(exchange.judged(ready("nobody's"), |_| true).await, "nobody's");
    assert!(asked.elapsed() >= REFUSED_AFTER, "{:?}", asked.elapsed());
    assert_eq!(exchange.judged(ready("the portal's"), |_| false).now_or_never(), Some("the portal's"), "nobody waits");
}
