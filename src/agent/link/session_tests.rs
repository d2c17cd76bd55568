//! A session, fed with frames by hand.

use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{sink, stream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::agent::directory::Directory;
use crate::agent::events::EventLog;
use crate::agent::testing::{Enrolled, JANE, Scripted, deadline};
use crate::clock::System;
use crate::protocol::command::Command;

const LONG: u32 = 60_000;

/// The relay's end.
struct Relay {
    to_agent: mpsc::UnboundedSender<Result<FromRelay, Lost>>,
    from_agent: mpsc::UnboundedReceiver<FromAgent>,
}

fn wired() -> (Relay, Frames) {
    let (to_agent, incoming) = mpsc::unbounded_channel();
    let (outgoing, from_agent) = mpsc::unbounded_channel();
    let incoming = stream::unfold(incoming, |mut rx| async { rx.recv().await.map(|frame| (frame, rx)) });
    let outgoing = sink::unfold(outgoing, |tx: mpsc::UnboundedSender<FromAgent>, frame| async {
        tx.send(frame).map_err(|_| Lost::Broken("hung up".into()))?;
        Ok(tx)
    });
    (Relay { to_agent, from_agent }, Frames { incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) })
}

impl Relay {
    fn say(&self, frame: FromRelay) {
        self.to_agent.send(Ok(frame)).unwrap();
    }

    fn welcome(&self, heartbeat_interval_ms: u32) {
        let node = "node-1".to_owned();
        self.say(FromRelay::Welcome(v1::Welcome { node, heartbeat_interval_ms, ..Default::default() }));
    }

    fn stored(&self, command: &Command) {
        self.say(FromRelay::OutcomeStored(v1::OutcomeStored { command: command.jti.to_string() }));
    }

    async fn hear(&mut self) -> FromAgent {
        deadline(self.from_agent.recv()).await.expect("the agent hung up")
    }

    /// The next outcome; other frames are passed over.
    async fn outcome(&mut self) -> v1::Outcome {
        loop {
            if let FromAgent::Outcome(outcome) = self.hear().await {
                return outcome;
            }
        }
    }
}

struct Serving {
    relay: Relay,
    executor: Executor,
    ended: JoinHandle<Result<End, SessionError>>,
}

async fn open(agent: &Enrolled, executor: &Executor, heartbeat: u32) -> (Relay, Result<Session, SessionError>) {
    let (relay, frames) = wired();
    relay.welcome(heartbeat);
    (relay, open_with(agent, executor, frames).await)
}

async fn open_with(agent: &Enrolled, executor: &Executor, frames: Frames) -> Result<Session, SessionError> {
    Session::open(frames, shared(agent, executor)).await
}

fn shared(agent: &Enrolled, executor: &Executor) -> Shared {
    let events = EventLog::open(&agent.home().events(), agent.clock.clone()).unwrap();
    let interval = Duration::from_secs(60);
    let preflight =
        Preflight::new(&agent.home(), executor.core.directory.clone(), events.clone(), interval, agent.clock.clone());
    let running = preflight.clone();
    tokio::spawn(async move { running.run().await });
    Shared {
        executor: executor.clone(),
        preflight,
        instance: InstanceId::new(&System, &System),
        capacity: 8,
        lead: Arc::default(),
        nodes: watch::Sender::new(1),
        noted: Arc::default(),
        approval: Approval::new(events),
    }
}

/// One of several sessions of a process.
async fn one_of(shared: &Shared) -> (Relay, JoinHandle<Result<End, SessionError>>) {
    let (relay, frames) = wired();
    relay.welcome(LONG);
    let mut session = Session::open(frames, shared.clone()).await.unwrap();
    (relay, tokio::spawn(async move { session.serve(std::future::pending()).await }))
}

async fn serving(agent: &Enrolled, directory: Arc<dyn Directory>, heartbeat: u32) -> Serving {
    let (executor, _) = agent.executor(directory);
    let (relay, ended) = serving_again(agent, &executor, heartbeat).await;
    Serving { relay, executor, ended }
}

/// One session more of the same process.
async fn serving_again(
    agent: &Enrolled,
    executor: &Executor,
    heartbeat: u32,
) -> (Relay, JoinHandle<Result<End, SessionError>>) {
    let (relay, session) = open(agent, executor, heartbeat).await;
    let mut session = session.unwrap();
    (relay, tokio::spawn(async move { session.serve(std::future::pending()).await }))
}

#[tokio::test]
async fn hello_says_who_and_what_is_unfinished_and_a_preflight_follows_the_welcome() {
    let agent = Enrolled::new().await;
    let command = agent.command(JANE);
    let journal = agent.journal();
    journal.receive(&command, &agent.delivery(&command).command_jws, None).await.unwrap();
    drop(journal);
    let mut serving = serving(&agent, Arc::new(Scripted::default()), LONG).await;
    let FromAgent::Hello(hello) = serving.relay.hear().await else { panic!("hello comes first") };
    assert_eq!(hello.journal, agent.identity.journal.to_string());
    assert_eq!((hello.unfinished, hello.capacity), (vec![command.jti.to_string()], 8));
    assert!(matches!(serving.relay.hear().await, FromAgent::Preflight(_)));
}

#[tokio::test]
async fn a_delivery_that_takes_its_time_is_answered_with_received_and_then_the_outcome() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().resets([Ok(())]).gated(gate.clone()));
    let mut serving = serving(&agent, directory, LONG).await;
    let command = agent.command(JANE);
    serving.relay.say(FromRelay::Deliver(agent.delivery(&command)));
    let received = loop {
        match serving.relay.hear().await {
            FromAgent::Received(received) => break received,
            FromAgent::Outcome(outcome) => panic!("nothing is done yet: {outcome:?}"),
            _ => {}
        }
    };
    gate.add_permits(1);
    assert_eq!([received.command, serving.relay.outcome().await.command], [(); 2].map(|()| command.jti.to_string()));
}

#[tokio::test]
async fn an_outcome_is_sent_on_every_session_until_the_relay_has_stored_it() {
    let agent = Enrolled::new().await;
    let command = agent.command(JANE);
    let mut serving = serving(&agent, Arc::new(Scripted::default().resets([Ok(())])), LONG).await;
    serving.relay.say(FromRelay::Deliver(agent.delivery(&command)));
    let first = serving.relay.outcome().await;
    drop(serving.relay);
    deadline(serving.ended).await.unwrap().unwrap_err();

    let (mut relay, ended) = serving_again(&agent, &serving.executor, LONG).await;
    assert_eq!(relay.outcome().await, first);
    relay.stored(&command);
    // Taken in after it: when this is answered, the other has been, too.
    relay.say(FromRelay::Deliver(agent.delivery(&command)));
    assert_eq!(relay.outcome().await, first);
    drop(relay);
    deadline(ended).await.unwrap().unwrap_err();

    let (mut relay, _ended) = serving_again(&agent, &serving.executor, LONG).await;
    assert!(matches!(relay.hear().await, FromAgent::Hello(_)));
    assert!(matches!(relay.hear().await, FromAgent::Preflight(_)), "it was sent again after it was stored");
}

#[tokio::test]
async fn outcomes_that_fill_the_way_to_the_relay_do_not_keep_the_agent_from_listening() {
    const MANY: usize = 64;
    let agent = Enrolled::new().await;
    let (executor, _) = agent.executor(Arc::new(Scripted::default()));
    let commands: Vec<_> = (0..MANY).map(|n| agent.command(&format!("user-{n}@corp.example"))).collect();
    let journal = &executor.core.journal;
    join_all(commands.iter().map(async |command| {
        journal.receive(command, &agent.delivery(command).command_jws, None).await.unwrap();
        journal.conclude(command.jti, "jws".to_owned(), false).await.unwrap();
    }))
    .await;
    // Each way holds two frames; the rest waits until the other side listens.
    let (to_agent, incoming) = mpsc::channel(2);
    let (outgoing, mut from_agent) = mpsc::channel(2);
    let incoming = stream::unfold(incoming, |mut rx| async { rx.recv().await.map(|frame| (Ok(frame), rx)) });
    let outgoing = sink::unfold(outgoing, |tx: mpsc::Sender<FromAgent>, frame| async {
        tx.send(frame).await.map_err(|_| Lost::Broken("hung up".into()))?;
        Ok(tx)
    });
    let frames = Frames { incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) };
    let welcome = v1::Welcome { heartbeat_interval_ms: LONG, ..Default::default() };
    to_agent.send(FromRelay::Welcome(welcome)).await.unwrap();
    let mut session = deadline(open_with(&agent, &executor, frames)).await.unwrap();
    let ended = tokio::spawn(async move { session.serve(std::future::pending()).await });
    // A relay that first says all it has to say, deliveries among it, and only then listens.
    let relay = async {
        for command in &commands {
            to_agent.send(FromRelay::Heartbeat(v1::Heartbeat::default())).await.unwrap();
            to_agent.send(FromRelay::Deliver(agent.delivery(command))).await.unwrap();
        }
        let mut left: Vec<_> = commands.iter().map(|command| command.jti.to_string()).collect();
        while !left.is_empty() {
            if let FromAgent::Outcome(outcome) = from_agent.recv().await.expect("the agent hung up") {
                left.retain(|id| *id != outcome.command);
                let stored = v1::OutcomeStored { command: outcome.command };
                to_agent.send(FromRelay::OutcomeStored(stored)).await.unwrap();
            }
        }
    };
    deadline(relay).await;
    assert!(!ended.is_finished());
}

#[tokio::test]
async fn heartbeats_come_and_a_silent_relay_is_dropped() {
    let agent = Enrolled::new().await;
    let mut serving = serving(&agent, Arc::new(Scripted::default()), 40).await;
    while !matches!(serving.relay.hear().await, FromAgent::Heartbeat(_)) {}
    let error = deadline(serving.ended).await.unwrap().unwrap_err();
    assert!(matches!(error, SessionError::Lost(Lost::Silent)), "{error}");
}

#[tokio::test]
async fn go_away_ends_serving_and_leaves_the_session_open() {
    let agent = Enrolled::new().await;
    let (executor, _) = agent.executor(Arc::new(Scripted::default().resets([Ok(())])));
    let (mut relay, session) = open(&agent, &executor, LONG).await;
    let mut session = session.unwrap();
    relay.say(FromRelay::GoAway(v1::GoAway { reason: "drain".into(), reconnect_after_ms: 7, close_after_ms: 9 }));
    let end = deadline(session.serve(std::future::pending())).await.unwrap();
    assert_eq!(end, End::GoAway { reason: "drain".into(), reconnect_after: Duration::from_millis(7) });
    let _still = tokio::spawn(async move { session.serve(std::future::pending()).await });
    relay.say(FromRelay::Deliver(agent.delivery(&agent.command(JANE))));
    relay.outcome().await;
}

#[tokio::test]
async fn of_two_sessions_the_first_speaks_for_the_agent_and_an_outcome_goes_back_to_who_asked() {
    let agent = Enrolled::new().await;
    let (executor, _) = agent.executor(Arc::new(Scripted::default().resets([Ok(()), Ok(())])));
    let shared = shared(&agent, &executor);
    let (mut first, _serving) = one_of(&shared).await;
    assert!(matches!(first.hear().await, FromAgent::Hello(_)));
    assert!(matches!(first.hear().await, FromAgent::Preflight(_)));
    let (mut second, _serving) = one_of(&shared).await;
    assert!(matches!(second.hear().await, FromAgent::Hello(_)));
    for relay in [&mut second, &mut first] {
        let command = agent.command(JANE);
        relay.say(FromRelay::Deliver(agent.delivery(&command)));
        // The other one hears nothing of it, or this would not be all that it hears; nor of a preflight.
        let outcome = loop {
            match relay.hear().await {
                FromAgent::Received(received) => assert_eq!(received.command, command.jti.to_string()),
                FromAgent::Outcome(outcome) => break outcome,
                heard => panic!("{heard:?}"),
            }
        };
        assert_eq!(outcome.command, command.jti.to_string());
        relay.stored(&command);
    }
}

#[tokio::test]
async fn when_the_session_that_asked_is_gone_the_other_one_sends_the_outcome() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().resets([Ok(()), Ok(())]).gated(gate.clone()));
    let (executor, _) = agent.executor(directory.clone());
    let shared = shared(&agent, &executor);
    let ((mut first, _serving), (second, ended)) = (one_of(&shared).await, one_of(&shared).await);
    let (asked, lost) = (agent.command(JANE), agent.command(JANE));
    second.say(FromRelay::Deliver(agent.delivery(&asked)));
    directory.called("reset", 1).await;
    drop(second);
    deadline(ended).await.unwrap().unwrap_err();
    gate.add_permits(1);
    assert_eq!(first.outcome().await.command, asked.jti.to_string());
    first.stored(&asked);
    // And the same for one that was sent, and did not arrive.
    let (mut second, ended) = one_of(&shared).await;
    second.say(FromRelay::Deliver(agent.delivery(&lost)));
    gate.add_permits(1);
    second.outcome().await;
    drop(second);
    deadline(ended).await.unwrap().unwrap_err();
    while first.outcome().await.command != lost.jti.to_string() {}
}

#[tokio::test]
async fn leaving_says_so_and_waits_for_what_runs_and_for_the_relay_to_store_it() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().resets([Ok(())]).gated(gate.clone()));
    let (executor, _) = agent.executor(directory.clone());
    let (mut relay, session) = open(&agent, &executor, LONG).await;
    let mut session = session.unwrap();
    let stop = CancellationToken::new();
    let asked = stop.clone();
    let left = tokio::spawn(async move {
        session.serve(asked.cancelled()).await.unwrap();
        session.leave(Duration::from_secs(15)).await;
    });
    let command = agent.command(JANE);
    relay.say(FromRelay::Deliver(agent.delivery(&command)));
    directory.called("reset", 1).await;
    stop.cancel();
    while !matches!(relay.hear().await, FromAgent::Leaving(_)) {}
    gate.add_permits(1);
    relay.outcome().await;
    assert!(!left.is_finished(), "it did not wait for the relay");
    relay.stored(&command);
    drop(relay.to_agent);
    deadline(left).await.unwrap();
    assert!(executor.core.journal.open_entries().unwrap().is_empty());
}

#[tokio::test]
async fn anything_but_a_welcome_opens_no_session() {
    let agent = Enrolled::new().await;
    let (executor, _) = agent.executor(Arc::new(Scripted::default()));
    let (relay, frames) = wired();
    relay.say(FromRelay::Heartbeat(v1::Heartbeat::default()));
    assert!(deadline(open_with(&agent, &executor, frames)).await.is_err());
    let (relay, frames) = wired();
    drop(relay.to_agent);
    assert!(deadline(open_with(&agent, &executor, frames)).await.is_err());
}
