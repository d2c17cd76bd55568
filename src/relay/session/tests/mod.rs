//! The session fed directly: frames in, frames out, no socket.

mod bounds;
mod storing;

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::SinkExt;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::PollSender;

use super::*;
use crate::clock::System;
use crate::protocol::api::AgentStatus;
use crate::protocol::enrollment::AgentKeys;
use crate::protocol::ids::{InstanceId, InvitationId, ObjectId};
use crate::protocol::jose::{SealingKey, SigningKey};
use crate::protocol::outcome::{Code, Outcome};
use crate::relay::bus::{Delivery, Inbox, Notice};
use crate::relay::continuity::Continuity;
use crate::relay::embedded::{EmbeddedBus, EmbeddedLedger, EmbeddedRegistry};
use crate::relay::ids::NodeId;
use crate::relay::ledger::{Accepted, Intent, NewCommand};
use crate::relay::registry::{AgentRecord, InvitationRecord};

/// As many frames fit into the pipe, each way: fewer than are waiting on either side.
const PIPE: usize = 8;
const WAITING: usize = 40;
const PATIENCE: Duration = Duration::from_secs(8);

/// The relay's end of a pipe.
struct Pipe {
    from_agent: mpsc::Receiver<FromAgent>,
    to_agent: PollSender<FromRelay>,
}

impl Stream for Pipe {
    type Item = Result<Option<FromAgent>, SocketError>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.from_agent.poll_recv(cx).map(|frame| frame.map(|frame| Ok(Some(frame))))
    }
}

fn lost<E>(_: E) -> SocketError {
    SocketError::Lost("the pipe is closed".to_owned())
}

impl Sink<FromRelay> for Pipe {
    type Error = SocketError;
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.to_agent.poll_ready_unpin(cx).map_err(lost)
    }
    fn start_send(mut self: Pin<&mut Self>, frame: FromRelay) -> Result<(), SocketError> {
        self.to_agent.start_send_unpin(frame).map_err(lost)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.to_agent.poll_flush_unpin(cx).map_err(lost)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.to_agent.poll_close_unpin(cx).map_err(lost)
    }
}

struct Stage {
    services: Arc<Services>,
    agent: AgentRecord,
    key: SigningKey,
    tenant: TenantId,
    _dir: TempDir,
}

/// The agent's end of a session.
struct Agent {
    to_relay: mpsc::Sender<FromAgent>,
    from_relay: mpsc::Receiver<FromRelay>,
    ended: tokio::task::JoinHandle<Ended>,
}

impl Stage {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other times.
    async fn with(change: impl FnOnce(&mut Services)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Arc::new(EmbeddedRegistry::open(&dir.path().join("r.redb")).await.unwrap());
        let ledger = Arc::new(EmbeddedLedger::open(&dir.path().join("l.redb"), System.now()).unwrap());
        let bus =
            Arc::new(EmbeddedBus::new(NodeId(ObjectId::new(&System, &System)), "node".to_owned(), System::clock()));
        let sessions = Arc::new(Sessions::default());
        bus.attach(Arc::clone(&sessions) as Arc<dyn Inbox>);
        let continuity = Continuity::new(registry.clone(), dir.path());
        let mut services = Services {
            registry,
            continuity: Arc::new(continuity),
            ledger,
            bus,
            sessions,
            clock: System::clock(),
            random: System::random(),
            metrics: Arc::new(Metrics::new().unwrap()),
            node_name: "test".into(),
            heartbeat: Duration::from_secs(10),
            hello_timeout: Duration::from_secs(5),
            opening_timeout: PATIENCE,
            max_age: Duration::from_secs(3600),
            frames: Rate::per_second(800),
            openings: Semaphore::new(1),
        };
        change(&mut services);
        let services = Arc::new(services);
        let (key, tenant): (_, TenantId) = (SigningKey::generate(&System).unwrap(), "contoso".parse().unwrap());
        let invitation = InvitationRecord {
            invitation: InvitationId::new(&System, &System),
            portal: "portal-1".parse().unwrap(),
            token_sha256: "t".into(),
            expires_at: System.now().plus(PATIENCE),
            redeemed_by: None,
        };
        let agent = AgentRecord {
            agent: AgentId::new(&System, &System),
            name: "host".into(),
            status: AgentStatus::Pending,
            keys: AgentKeys {
                signing: key.public().clone(),
                sealing: SealingKey::generate().unwrap().public().clone(),
            },
            journal: JournalId::new(&System, &System),
            invitation: invitation.invitation,
            attestation: String::new(),
            enrolled_at: System.now(),
            version: None,
            preflight: None,
            later: Default::default(),
        };
        services.registry.add_invitation(&tenant, invitation).await.unwrap();
        services.registry.redeem(&tenant, "t", agent.clone(), System.now()).await.unwrap();
        services.registry.approve(&tenant, agent.agent).await.unwrap();
        Self { services, agent, key, tenant, _dir: dir }
    }

    fn command(&self) -> NewCommand {
        NewCommand {
            key: CommandKey {
                tenant: self.tenant.clone(),
                portal: "portal-1".parse().unwrap(),
                command: CommandId::new(&System, &System),
            },
            agent: self.agent.agent,
            jws: "a.b.c".into(),
            body_sha256: [1; 32],
            exp: System.now().plus(PATIENCE),
            earliest: System.now(),
            // Tells them apart.
            traceparent: CommandId::new(&System, &System).to_string(),
            origin: self.services.bus.node(),
        }
    }

    /// Commands that some earlier session has taken to its grave.
    async fn waiting(&self) -> Vec<NewCommand> {
        let gone = SessionId::new(&System, &System);
        let commands: Vec<_> = (0..WAITING).map(|_| self.command()).collect();
        for command in &commands {
            self.services.ledger.accept(command.clone(), Intent::Deliver(gone), 1).await.unwrap();
        }
        commands
    }

    async fn open(&self) -> Agent {
        self.open_as(InstanceId::new(&System, &System)).await
    }

    async fn open_as(&self, instance: InstanceId) -> Agent {
        let mut agent = self.connect(instance).await;
        assert!(matches!(agent.next().await, Some(FromRelay::Welcome(_))));
        agent
    }

    /// Says `Hello`.
    async fn connect(&self, instance: InstanceId) -> Agent {
        let (to_relay, from_agent) = mpsc::channel(PIPE);
        let (to_agent, from_relay) = mpsc::channel(PIPE);
        let (services, tenant) = (Arc::clone(&self.services), self.tenant.clone());
        let ids = (self.agent.agent, self.agent.journal);
        let pipe = Pipe { from_agent, to_agent: PollSender::new(to_agent) };
        let ended = tokio::spawn(async move { run(&services, tenant, ids, pipe).await });
        let agent = Agent { to_relay, from_relay, ended };
        agent
            .send(FromAgent::Hello(v1::Hello {
                version: "test".into(),
                instance: instance.to_string(),
                journal: self.agent.journal.to_string(),
                unfinished: vec![],
                capacity: 1,
                portals: Vec::new(),
                announces_portals: false,
            }))
            .await;
        agent
    }

    /// Submits commands to the newest session; none of them is queued there yet.
    async fn accepted(&self, count: usize) -> (SessionId, Vec<Entry>) {
        let session = self.services.sessions.list().into_iter().map(|(session, ..)| session).max().unwrap();
        let mut entries = Vec::new();
        for _ in 0..count {
            let intent = Intent::Deliver(session);
            let accepted = self.services.ledger.accept(self.command(), intent, 1).await.unwrap();
            let Accepted::New(entry) = accepted else { panic!("it is new") };
            entries.push(entry);
        }
        (session, entries)
    }

    fn outcome(&self, command: &NewCommand) -> FromAgent {
        self.outcome_with(command, "")
    }

    fn outcome_with(&self, command: &NewCommand, detail: &str) -> FromAgent {
        let outcome = Outcome {
            iss: self.agent.agent,
            aud: command.key.portal.clone(),
            tenant: self.tenant.clone(),
            jti: ObjectId::new(&System, &System),
            command: command.key.command,
            iat: System.now(),
            status: Code::PasswordReset.status(),
            code: Code::PasswordReset.as_str().into(),
            event_id: Code::PasswordReset.event().id(),
            detail: detail.into(),
            retry_safe: false,
            retry_at: None,
            hindrances: None,
            directory_ms: 0,
            account: None,
        };
        let jws = outcome.sign(&self.key).unwrap();
        FromAgent::Outcome(v1::Outcome { command: command.key.command.to_string(), jws })
    }
}

impl Agent {
    async fn send(&self, frame: FromAgent) {
        timeout(PATIENCE, self.to_relay.send(frame)).await.expect("the relay reads").unwrap();
    }

    async fn next(&mut self) -> Option<FromRelay> {
        timeout(PATIENCE, self.from_relay.recv()).await.expect("the relay writes")
    }

    async fn ended(self) -> Ended {
        timeout(PATIENCE, self.ended).await.expect("the session ends").unwrap()
    }
}

#[tokio::test]
async fn an_agent_that_writes_all_its_outcomes_before_it_reads_is_heard() {
    let stage = Stage::new().await;
    let commands = stage.waiting().await;
    let mut agent = stage.open().await;
    for command in &commands {
        agent.send(stage.outcome(command)).await;
    }
    let mut stored = 0;
    while stored < WAITING {
        stored += usize::from(matches!(agent.next().await.unwrap(), FromRelay::OutcomeStored(_)));
    }
    for command in &commands {
        assert!(stage.services.ledger.get(&command.key).await.unwrap().unwrap().end.is_some());
    }
}

#[tokio::test]
async fn every_command_that_was_left_is_delivered_however_many_there_are() {
    let stage = Stage::new().await;
    let commands = stage.waiting().await;
    let mut agent = stage.open().await;
    for _ in &commands {
        assert!(matches!(agent.next().await, Some(FromRelay::Deliver(v1::Deliver { attempt: 2, .. }))));
    }
}

#[tokio::test]
async fn an_agent_that_the_registry_has_lost_while_it_connected_may_come_back() {
    let mut stage = Stage::new().await;
    stage.agent.agent = AgentId::new(&System, &System);
    assert_eq!(
        stage.connect(InstanceId::new(&System, &System)).await.ended().await,
        Ended::Closed(CloseReason::Internal),
        "only a tombstone ends it"
    );
}

#[tokio::test]
async fn orders_are_heard_while_commands_are_still_to_be_delivered() {
    let stage = Stage::new().await;
    stage.waiting().await;
    let mut agent = stage.open().await;
    assert!(matches!(agent.next().await, Some(FromRelay::Deliver(_))));
    stage.services.sessions.notice(Notice::Revoked(stage.tenant.clone(), stage.agent.agent));
    let mut delivered = 1;
    while let Some(frame) = agent.next().await {
        delivered += usize::from(matches!(frame, FromRelay::Deliver(_)));
    }
    assert!(delivered < WAITING, "it went on delivering to a revoked agent");
    assert_eq!(agent.ended().await, Ended::Closed(CloseReason::Revoked));
}

#[tokio::test]
async fn a_preflight_that_was_asked_for_is_noted_however_soon_it_comes() {
    let stage = Stage::new().await;
    let mut agent = stage.open().await;
    let (session, ..) = stage.services.sessions.list().remove(0);
    let noted = async |checked_at| {
        let (registry, of) = (&stage.services.registry, stage.agent.agent);
        let said = async || registry.agent(&stage.tenant, of).await.unwrap().unwrap().preflight;
        let wait = async {
            while said().await.is_none_or(|report| report.checked_at != UnixTime(checked_at)) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("it is noted");
    };
    let report = |checked_at| FromAgent::Preflight(v1::Preflight { checked_at, rows: Vec::new(), domains: Vec::new() });
    agent.to_relay.send(report(1)).await.unwrap();
    noted(1).await;
    let place = crate::relay::bus::Place { node: stage.services.bus.node(), session };
    stage.services.bus.tell(Notice::Check(place)).await.unwrap();
    let asked = timeout(PATIENCE, async {
        while !matches!(agent.from_relay.recv().await, Some(FromRelay::Check(_)) | None) {}
    });
    asked.await.expect("the agent is asked");
    agent.to_relay.send(report(2)).await.unwrap();
    noted(2).await;
}

#[tokio::test]
async fn what_is_queued_when_the_agent_leaves_is_given_back_at_once() {
    let stage = Stage::new().await;
    let agent = stage.open().await;
    let (session, ..) = stage.services.sessions.list().remove(0);
    let command = stage.command();
    // The agent has said that it leaves before the session can look at the command.
    let leaving = agent.to_relay.try_send(FromAgent::Leaving(v1::Leaving { reason: String::new() }));
    leaving.unwrap();
    let intent = Intent::Deliver(session);
    stage.services.ledger.accept(command.clone(), intent, 1).await.unwrap();
    let mut ending = stage.services.sessions.ending(&command.key);
    let entry = stage.services.ledger.get(&command.key).await.unwrap().unwrap();
    match stage.services.sessions.deliver(session, entry) {
        Delivery::Queued => {
            let ended = timeout(PATIENCE, ending.ended()).await.expect("nobody waits for exp");
            assert!(matches!(ended.end, Some(crate::relay::ledger::End::Undelivered { .. })));
        }
        // It has left already.
        Delivery::Gone => {}
        other => panic!("{other:?}"),
    }
    drop(agent.to_relay);
    assert_eq!(timeout(PATIENCE, agent.ended).await.unwrap().unwrap(), Ended::Left);
}

#[tokio::test]
async fn a_command_whose_word_was_lost_is_found_once_and_nobody_says_any_more_that_it_was_not_written() {
    let stage = Stage::new().await;
    let mut agent = stage.open().await;
    let (ledger, sessions) = (&stage.services.ledger, &stage.services.sessions);
    let (session, ..) = sessions.list().remove(0);
    let [lost, next] = [(); 2].map(|()| stage.command());
    let Accepted::New(word) = ledger.accept(lost.clone(), Intent::Deliver(session), 1).await.unwrap() else {
        panic!("it is new")
    };
    sessions.reconcile();
    let found = agent.next().await;
    assert!(matches!(&found, Some(FromRelay::Deliver(v1::Deliver { attempt: 2, .. }))), "{found:?}");
    // Whoever sent it got no answer, or thinks that nobody listens.
    let denied = ledger.take_back(&lost.key, session, Undelivered::NoAgent, 2).await.unwrap();
    assert_eq!(denied, None, "it is written");

    // Word of it comes after all; what comes behind it is the next that the agent hears.
    assert_eq!(sessions.deliver(session, word), Delivery::Queued);
    let jws = "the.next.one".to_owned();
    let intent = Intent::Deliver(session);
    let Accepted::New(word) = ledger.accept(NewCommand { jws: jws.clone(), ..next }, intent, 3).await.unwrap() else {
        panic!("it is new")
    };
    assert_eq!(sessions.deliver(session, word), Delivery::Queued);
    let heard = agent.next().await;
    assert!(matches!(&heard, Some(FromRelay::Deliver(v1::Deliver { command_jws, .. })) if *command_jws == jws));
}

#[tokio::test]
async fn an_agent_is_asked_once_more_on_the_same_session_until_it_has_answered() {
    let stage = Stage::new().await;
    let mut agent = stage.open().await;
    let (session, entries) = stage.accepted(2).await;
    for (n, entry) in entries.iter().enumerate() {
        assert_eq!(stage.services.sessions.deliver(session, entry.clone()), Delivery::Queued);
        let heard = agent.next().await;
        assert!(matches!(&heard, Some(FromRelay::Deliver(v1::Deliver { attempt: 1, .. }))), "{n}: {heard:?}");
    }
    // Its answer may have gone another way, and been lost with the ledger.
    stage.services.sessions.reconcile();
    for n in 0..2 {
        let heard = agent.next().await;
        assert!(matches!(&heard, Some(FromRelay::Deliver(v1::Deliver { attempt: 2, .. }))), "{n}: {heard:?}");
    }
}

#[tokio::test]
async fn a_session_that_looks_what_it_may_have_missed_finds_that_its_agent_was_revoked() {
    let stage = Stage::new().await;
    let agent = stage.open().await;
    stage.services.registry.revoke(&stage.tenant, stage.agent.agent).await.unwrap();
    stage.services.sessions.reconcile();
    assert_eq!(agent.ended().await, Ended::Closed(CloseReason::Revoked));
}

#[tokio::test]
async fn nobody_opens_a_session_on_a_node_that_has_closed_them_all() {
    let stage = Stage::new().await;
    let agent = stage.open().await;
    stage.services.sessions.close_all(CloseReason::Drain);
    assert_eq!(agent.ended().await, Ended::Closed(CloseReason::Drain));
    let session = SessionId::new(&System, &System);
    assert!(stage.services.sessions.register(session, &stage.tenant, stage.agent.agent).is_none());
}

#[tokio::test]
async fn an_old_session_is_asked_to_move_and_still_delivers() {
    let stage = Stage::with(|services| services.max_age = Duration::from_millis(200)).await;
    let mut agent = stage.open().await;
    let Some(FromRelay::GoAway(advice)) = agent.next().await else { panic!("GoAway was expected") };
    assert_eq!(advice.reason, "rebalance");
    assert!(advice.reconnect_after_ms <= 1000 && advice.close_after_ms > 60_000, "{advice:?}");
    let (session, entries) = stage.accepted(1).await;
    assert_eq!(stage.services.sessions.deliver(session, entries[0].clone()), Delivery::Queued);
    assert!(matches!(agent.next().await, Some(FromRelay::Deliver(_))));
}

#[tokio::test]
async fn what_a_session_leaves_goes_to_another_one_of_its_agent() {
    let stage = Stage::new().await;
    let instance = InstanceId::new(&System, &System);
    let mut other = stage.open_as(instance).await;
    let old = stage.open_as(instance).await;
    // Some are written to it and never read, and some still wait in its queue.
    let (session, entries) = stage.accepted(WAITING).await;
    for entry in &entries {
        assert_eq!(stage.services.sessions.deliver(session, entry.clone()), Delivery::Queued);
    }
    drop(old);
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < WAITING {
        let Some(FromRelay::Deliver(delivery)) = other.next().await else { panic!("a delivery was expected") };
        heard.insert(delivery.traceparent);
    }
    for entry in &entries {
        assert_eq!(stage.services.ledger.get(&entry.key).await.unwrap().unwrap().end, None);
    }
}

#[tokio::test]
async fn an_agent_that_finds_no_place_in_time_is_told_to_come_later() {
    let stage = Stage::with(|services| services.opening_timeout = Duration::from_millis(200)).await;
    let _taken = stage.services.openings.acquire().await.unwrap();
    let agent = stage.connect(InstanceId::new(&System, &System)).await;
    assert_eq!(agent.ended().await, Ended::Closed(CloseReason::Overload));
    let metrics = stage.services.metrics.render().unwrap();
    assert!(metrics.contains("writeback_limits_hits_total{limit=\"session_openings\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_place_is_free_again_when_the_session_is_open() {
    let stage = Stage::new().await;
    let _agents = [stage.open().await, stage.open().await];
}
