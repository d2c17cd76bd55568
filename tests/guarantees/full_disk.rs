//! The disk of a node with the embedded store is full: what is there is read, rights are taken away, and the rest is refused at
//! once, until there is room again.

use std::time::{Duration, Instant};

use writeback_relay::protocol::frame::CloseReason;
use writeback_relay::protocol::outcome::Code;

use crate::support::cli::Cli;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Relay, TENANT, tenant};
use crate::support::small_disk::SmallDisk;
use crate::support::{deadline, eventually};

const JANE: &str = "jane@corp.example";

fn operator(relay: &Relay) -> Cli {
    let mut cli = Cli::new(env!("CARGO_BIN_EXE_writeback-relay"), &[]);
    cli.set("WRITEBACK_OPS_URL", &relay.ops_url());
    cli.set("WRITEBACK_ADMIN_TOKEN_FILE", &relay.data_dir().join("admin.token").display().to_string());
    cli
}

async fn says(relay: &Relay, text: &str) {
    eventually(&format!("readyz says {text}"), async || {
        let (status, said) = relay.readiness().await;
        assert_eq!(status, 200, "it serves, as far as it can: {said}");
        said.contains(text)
    })
    .await;
}

#[tokio::test]
async fn on_a_full_disk_rights_are_taken_away_and_all_else_is_refused_at_once_until_there_is_room() {
    let disk = SmallDisk::new();
    let mut relay = Relay::start_in(disk.path().join("data")).await;
    let (portal, other) = (relay.portal("portal-1").await, relay.portal("portal-2").await);
    let (good, bad) = (RawAgent::enrolled(&relay, &portal).await, RawAgent::enrolled(&relay, &portal).await);
    let (mut kept, mut dropped) = (good.open().await, bad.open().await);
    says(&relay, "ok").await;
    let reserve = relay.data_dir().join("reserve");
    assert!(reserve.exists());

    disk.fill();
    says(&relay, "the disk of data_dir is full").await;
    // Its reserve was given away, and somebody else is not so quick to take it.
    eventually("the reserve is given away", async || !reserve.exists()).await;
    let reset = |agent: &RawAgent| portal.raw.reset(agent.agent, agent.sealing.public(), JANE, "Pass-Word-2026").1;
    let begun = Instant::now();
    let refused = portal.raw.submit(&reset(&good), 30).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "store_not_writable"), "{}", refused.text());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(relay.metrics().await.contains("writeback_store_writable 0"));
    assert_eq!(portal.portal.agents(&tenant()).await.unwrap().len(), 2);
    assert!(portal.portal.availability(&tenant()).await.unwrap().available);
    let cli = operator(&relay);
    let said = cli.run(&["status"]).await;
    assert!(said.status == 1 && said.out.contains("the disk of data_dir is full"), "{said:?}");
    assert!(said.out.contains("make room on it"), "{said:?}");
    let said = cli.run(&["tenant", "add", "fabrikam"]).await;
    assert!(said.status == 1 && said.err.contains("make room on it"), "the operator is told the cause: {said:?}");

    assert_eq!(cli.run(&["agent", "revoke", TENANT, &bad.agent.to_string()]).await.status, 0);
    assert_eq!(dropped.closed().await.0, CloseReason::Revoked.code());
    assert_eq!(cli.run(&["portal", "remove", "portal-2"]).await.status, 0);
    assert!(other.portal.agents(&tenant()).await.is_err());
    kept.heartbeat().await;

    // A node that is started on a full disk comes up, and has not forgotten.
    relay.kill();
    relay.start_again().await;
    says(&relay, "the disk of data_dir is full").await;
    assert!(bad.upgrade(&bad.assertion().sign(&bad.signing).unwrap(), "writeback.v1").await.is_err());

    disk.empty();
    eventually("there is room", async || relay.readiness().await == (200, "ok".to_owned())).await;
    assert!(reserve.exists(), "it is kept back again");
    let mut session = good.open().await;
    let jws = reset(&good);
    let (answered, ()) = tokio::join!(portal.raw.submit(&jws, 20), async {
        let asked = deadline("the command comes", session.delivery()).await;
        let asked =
            writeback_relay::protocol::command::Command::parse(&asked.command_jws).unwrap().unverified().unwrap();
        session.send(good.outcome_frame(&asked, Code::PasswordReset)).await;
    });
    assert_eq!(answered.status, 200, "{}", answered.text());
}
