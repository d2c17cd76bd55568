//! The control socket: whatever is sent to it, the agent works on, and the next question is answered.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use writeback_relay::agent::control::{Ask, ask};
use writeback_relay::agent::home::Home;

use crate::support::agent::Agent;
use crate::support::relay::Relay;
use crate::support::{deadline, eventually};

const JANE: &str = "jane@corp.example";

#[tokio::test]
async fn whatever_is_sent_to_the_control_socket_the_next_question_is_answered() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let mut agent = Agent::running(&relay, &portal, &[JANE], 0).await;
    let home = Home::new(agent.home());
    let path = agent.home().join("agent.sock");
    let socket = std::fs::symlink_metadata(&path).unwrap();
    assert!(socket.file_type().is_socket() && socket.permissions().mode() & 0o777 == 0o600);
    let long = vec![b'x'; 1 << 20];
    for said in [&b"\n"[..], b"{}\n", b"{\"ask\":\"stop\"}\n", b"\xff\xfe\n", b"[\"status\"]\n", &long] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        // It may have hung up before all is written.
        let _ = stream.write_all(said).await;
        let _ = stream.shutdown().await;
        let mut told = Vec::new();
        let _ = deadline("it hangs up", stream.read_to_end(&mut told)).await;
        assert!(told.is_empty(), "{:?}: {}", &said[..said.len().min(20)], String::from_utf8_lossy(&told));
        assert_eq!(ask(&home, Ask::Status).await.unwrap().unwrap().version, env!("CARGO_PKG_VERSION"));
    }
    // More than there are places, and each is silent.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(UnixStream::connect(&path).await.unwrap());
    }
    eventually("a question is answered", async || ask(&home, Ask::Status).await.is_ok_and(|told| told.is_some())).await;
    drop(silent);
    // Who asks for a check gets one.
    let before = ask(&home, Ask::Check).await.unwrap().unwrap().preflight.unwrap().checked_at;
    eventually("it has checked again", async || {
        let running = ask(&home, Ask::Status).await.unwrap().unwrap();
        running.preflight.unwrap().checked_at > before
    })
    .await;
    // A second process in the folder ends, and takes nothing of the first with it.
    let said = agent.call(&["run"]).await;
    assert!(said.status != 0, "{said:?}");
    assert!(ask(&home, Ask::Status).await.unwrap().is_some());
    agent.kill();
    assert_eq!(ask(&home, Ask::Status).await.unwrap(), None);
}
