//! A portal's process that is killed between keeping a command and sending it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::support::agent::{Agent, demo};
use crate::support::deadline;
use crate::support::portal_cli::PortalCli;
use crate::support::relay::{Relay, TENANT};

const JANE: &str = "jane@corp.example";
const NEW: &str = "Better-Passw0rd-2";

/// A proxy for `CONNECT` that lets nothing more through to the relay as soon as the portal has kept a command: what comes
/// then is the command itself. Dropped, it is gone.
struct Gate {
    url: String,
    open: Arc<AtomicBool>,
    held: watch::Receiver<bool>,
    task: AbortHandle,
}

impl Gate {
    async fn start(relay: SocketAddr, commands: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (holds, held) = watch::channel(false);
        let (open, holds) = (Arc::new(AtomicBool::new(false)), Arc::new(holds));
        let opened = Arc::clone(&open);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (commands, open, holds) = (commands.clone(), Arc::clone(&opened), Arc::clone(&holds));
                tokio::spawn(async move {
                    let shut = move || !open.load(Ordering::SeqCst) && keeps_one(&commands);
                    let _ = carry(client, relay, shut, &holds).await;
                });
            }
        });
        Self { url, open, held, task: task.abort_handle() }
    }

    /// Waits until a command was held back.
    async fn holds(&mut self) {
        deadline("the command comes to the proxy", self.held.wait_for(|held| *held)).await.unwrap();
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn keeps_one(commands: &PathBuf) -> bool {
    let files = std::fs::read_dir(commands).into_iter().flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|kind| kind == "jws")).count() > 0
}

async fn carry(
    mut client: TcpStream,
    relay: SocketAddr,
    shut: impl Fn() -> bool,
    holds: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let mut relay = TcpStream::connect(relay).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_relay, mut to_relay) = relay.split();
    let requests = async {
        let mut buffer = [0; 16 * 1024];
        loop {
            let length = from_client.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            if shut() {
                holds.send_replace(true);
                std::future::pending::<()>().await;
            }
            to_relay.write_all(&buffer[..length]).await?;
        }
    };
    tokio::select! {
        ended = requests => ended,
        ended = tokio::io::copy(&mut from_relay, &mut to_client) => ended.map(drop),
    }
}

/// Everything but a running portal.
async fn stage() -> (Relay, PortalCli, Agent, Gate) {
    // A name that only proxies know.
    let relay = Relay::named("relay.test").await;
    let mut portal = PortalCli::init(&relay).await;
    let mut agent = Agent::new(&relay);
    let open = Gate::start(relay.own_addr(), PathBuf::new()).await;
    portal.proxied(&open.url);
    agent.set("HTTPS_PROXY", &open.url);
    agent.configure(&demo(&agent.home(), &[JANE], 0));
    super::enroll_and_approve(&portal, &agent).await;
    agent.start();
    crate::support::eventually("a reset is possible", || async { portal.availability().await.status == 0 }).await;
    (relay, portal, agent, open)
}

/// How many resets it has done.
fn done(agent: &Agent) -> usize {
    agent.event_ids().iter().filter(|id| **id == 31002).count()
}

fn kept(portal: &PortalCli, kind: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(portal.home().join("commands")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|of| of == kind)).collect()
}

#[tokio::test]
async fn what_was_kept_and_not_sent_when_the_portal_was_killed_is_finished_by_the_next_process_once() {
    let (relay, mut portal, agent, _open) = stage().await;
    let mut gate = Gate::start(relay.own_addr(), portal.home().join("commands")).await;
    portal.proxied(&gate.url);
    let killed = portal.start_reset(JANE, NEW, &[]);
    gate.holds().await;
    // SIGKILL, while the command is on its way to nowhere.
    drop(killed);
    let file = kept(&portal, "jws").pop().unwrap();
    assert!(!std::fs::read_to_string(&file).unwrap().contains(NEW), "the password is sealed");
    let command = file.file_stem().unwrap().to_str().unwrap().to_owned();
    gate.open();
    assert_eq!(done(&agent), 0);
    // The relay never had it: that is said, with what to do.
    let said = portal.status(&command, &[]).await;
    assert!(said.status == 1 && said.err.contains(&format!("writeback-portal resume {TENANT} {command}")), "{said:?}");

    let said = portal.run(&["resume"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.contains(&command) && said.out.contains("done: password_reset"), "{said:?}");
    // It has an end: nothing is left to send, and the claims are still there.
    assert_eq!((kept(&portal, "jws").len(), kept(&portal, "json").len()), (0, 1));
    let said = portal.run(&["resume"]).await;
    assert_eq!((said.status, said.out.as_str()), (0, "nothing was left without an answer\n"));
    let said = portal.run(&["resume", TENANT, &command]).await;
    assert!(said.status == 1 && said.err.contains("has an end"), "{said:?}");
    let said = portal.status(&command, &[]).await;
    assert!(said.status == 0 && said.out.contains("done: password_reset"), "{said:?}");
    assert_eq!(done(&agent), 1);
}

#[tokio::test]
async fn what_is_resumed_too_late_or_behind_a_newer_command_is_not_executed() {
    let (relay, mut portal, agent, _open) = stage().await;
    let mut gate = Gate::start(relay.own_addr(), portal.home().join("commands")).await;
    portal.proxied(&gate.url);
    // Its time is over before anybody goes on with it.
    let killed = portal.start_reset(JANE, "Late-Passw0rd-1", &["--wait", "2"]);
    gate.holds().await;
    drop(killed);
    gate.open();
    let late = kept(&portal, "jws").pop().unwrap();
    let late = late.file_stem().unwrap().to_str().unwrap().to_owned();
    crate::support::eventually("its time is over", || async {
        let text = std::fs::read_to_string(portal.home().join(format!("commands/{late}.json"))).unwrap();
        let claims: serde_json::Value = serde_json::from_str(&text).unwrap();
        crate::support::relay::now().0 > claims["exp"].as_i64().unwrap()
    })
    .await;
    let said = portal.run(&["resume", TENANT, &late]).await;
    assert!(said.status == 3 && said.out.contains("not done: expired"), "{said:?}");
    assert_eq!(done(&agent), 0);

    // A newer one for the same account was done meanwhile: an old password must not come behind it.
    let mut gate = Gate::start(relay.own_addr(), portal.home().join("commands")).await;
    portal.proxied(&gate.url);
    let killed = portal.start_reset(JANE, "Older-Passw0rd-1", &[]);
    gate.holds().await;
    drop(killed);
    gate.open();
    let older = kept(&portal, "jws").pop().unwrap();
    let older = older.file_stem().unwrap().to_str().unwrap().to_owned();
    let said = portal.reset("JANE@corp.example", "Newer-Passw0rd-1", &[]).await;
    assert_eq!(said.status, 0, "{said:?}");
    let said = portal.run(&["resume", "--json"]).await;
    let row = &said.json()[0];
    assert_eq!(
        (said.status, row["result"].as_str(), row["command"].as_str()),
        (4, Some("unknown"), Some(older.as_str()))
    );
    let said = portal.run(&["resume"]).await;
    assert!(said.status == 4 && said.out.contains("a newer command for this account"), "{said:?}");
    assert!(said.out.contains(&older), "{said:?}");
    assert_eq!(done(&agent), 1);
}
