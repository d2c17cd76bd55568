//! A relay that has lost its ledger does not take what it has forgotten for what never was.

use std::time::Duration;

use writeback_relay::protocol::api::CommandState;
use writeback_relay::protocol::jose::Validity;
use writeback_relay::protocol::outcome::Code;

use super::{JANE, NEW};
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Relay, now};

#[tokio::test]
async fn of_a_command_that_may_have_come_before_the_ledger_nobody_says_that_it_was_not_written() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let enrolled = now();
    eventually("the clock moves on", || std::future::ready(now() > enrolled)).await;
    let (asked, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let mut short = portal.raw.command(agent.agent, JANE);
    short.validity = Validity::starting(now(), Duration::from_secs(2));
    let (short, short_jws) = portal.raw.sealed(short, agent.sealing.public(), NEW);
    let mut session = agent.open().await;
    for jws in [&jws, &short_jws] {
        assert_eq!(portal.raw.submit(jws, 0).await.status, 202);
        assert_eq!(&session.delivery().await.command_jws, jws);
    }
    relay.kill();
    drop(session);
    for name in ["ledger.redb", "ledger.0.wal", "ledger.1.wal"] {
        std::fs::remove_file(relay.data_dir().join(name)).unwrap();
    }
    relay.start_again().await;

    assert_eq!(portal.raw.submit(&jws, 1).await.status, 202, "not undeliverable");
    eventually("the short one has expired", || std::future::ready(now() >= short.validity.exp)).await;
    let answered = portal.raw.submit(&short_jws, 0).await;
    assert_eq!((answered.status, answered.problem().as_str()), (504, "outcome_unknown"), "not expired");
    // The first life of one that has begun since then is this one.
    let later = RawAgent::enrolled(&relay, &portal).await;
    let (_, new) = portal.raw.reset(later.agent, later.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&new, 0).await.problem(), "no_agent");

    let mut session = agent.open().await;
    let delivery = session.delivery().await;
    assert_eq!(delivery.command_jws, jws);
    assert!(delivery.attempt >= 2);
    session.send(agent.outcome_frame(&asked, Code::PasswordReset)).await;
    assert_eq!(portal.raw.concluded(asked.jti).await.state, CommandState::Concluded);
}
