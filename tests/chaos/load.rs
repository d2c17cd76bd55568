//! The portals: they submit all the time, twice now and then, hang up, and follow each command to its end.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use writeback_relay::clock::{Clock, System};
use writeback_relay::portal::{ClientError, RelayClient};
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::command::{Command, Operation, Options, Subject};
use writeback_relay::protocol::ids::{CommandId, TenantId};
use writeback_relay::protocol::jose::{Validity, base64url, sha256};
use writeback_relay::protocol::outcome::Outcome;
use writeback_relay::protocol::password::Password;
use writeback_relay::protocol::sealed::{Secrets, seal_for};

use crate::dice::Dice;
use crate::directory::{WEAK, account, digest};
use crate::history::{Event, Made, Said};
use crate::world::{ACCOUNTS, Agent, World};

/// In every password and nowhere else: found in a log, it is a leak.
pub(crate) const MARK: &str = "Chaos-Pw-";

/// Accounts that both agents of a tenant write; each other account meets one agent.
const SHARED: usize = 5;

/// So many commands may be without an end before the next is sent: on a slow machine a run takes longer.
const AT_A_TIME: usize = 250;

/// A command that was sent.
struct Sent {
    command: Command,
    jws: String,
    portal: usize,
    agent: usize,
}

pub(crate) struct Load {
    world: Arc<World>,
    seed: u64,
    made: AtomicUsize,
    sent: Mutex<Vec<Arc<Sent>>>,
    /// Those without an end.
    open: Mutex<HashSet<CommandId>>,
    following: TaskTracker,
    stop: CancellationToken,
}

impl Load {
    pub(crate) fn new(world: Arc<World>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            world,
            seed,
            made: AtomicUsize::new(0),
            sent: Mutex::default(),
            open: Mutex::default(),
            following: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// So many commands have been made.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// So many have no end yet.
    pub(crate) fn open(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    /// Submits at this rate, for ever.
    pub(crate) async fn go_on(self: &Arc<Self>, per_second: f64) {
        let mut tick = interval(Duration::from_secs_f64(1.0 / per_second));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for number in 0.. {
            tick.tick().await;
            while self.open() >= AT_A_TIME {
                sleep(Duration::from_millis(50)).await;
            }
            let load = Arc::clone(self);
            let dice = Dice::of(self.seed, "command", number);
            let sent = Arc::new(self.make(number, dice.clone()));
            self.made.fetch_add(1, Ordering::Relaxed);
            self.open.lock().unwrap().insert(sent.command.jti);
            self.following.spawn(async move { load.stop.run_until_cancelled(load.follow(&sent, dice)).await });
        }
    }

    /// Nobody asks any more.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.following.close();
        self.following.wait().await;
    }

    /// Asks once more about every command.
    pub(crate) async fn audit(self: &Arc<Self>) {
        let places = Arc::new(Semaphore::new(16));
        let asking = TaskTracker::new();
        let sent = self.sent.lock().unwrap().clone();
        for (number, sent) in sent.into_iter().enumerate() {
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            let load = Arc::clone(self);
            asking.spawn(async move {
                let client = load.client(sent.portal, number);
                let until = Instant::now() + Duration::from_secs(30);
                while matches!(
                    load.ask(client, &sent, "audit", Duration::ZERO).await,
                    Said::Nothing { .. } | Said::Refused { .. }
                ) && Instant::now() < until
                {
                    sleep(Duration::from_millis(200)).await;
                }
                drop(place);
            });
        }
        asking.close();
        asking.wait().await;
    }

    fn client(&self, portal: usize, number: usize) -> &RelayClient {
        let clients = &self.world.portals[portal].clients;
        &clients[number % clients.len()]
    }

    fn make(&self, number: u64, mut dice: Dice) -> Sent {
        let agent = dice.index(self.world.agents.len());
        let tenant = &self.world.agents[agent].tenant;
        let of_tenant: Vec<usize> =
            (0..self.world.agents.len()).filter(|at| self.world.agents[*at].tenant == *tenant).collect();
        let who = dice.index(ACCOUNTS);
        let agent = if who < SHARED { agent } else { of_tenant[who % of_tenant.len()] };
        let account = if dice.percent(3) { "nobody@corp.example".to_owned() } else { account(who) };
        let weak = if dice.percent(3) { WEAK } else { "" };
        // Where two agents write, so that `pwdLastSet` is often 0 before and after.
        let force_change_at_next_logon = dice.percent(if who < SHARED { 50 } else { 10 });
        let password = format!("{MARK}{weak}{number}-{:016x}", dice.next());
        let lifetime = if dice.percent(15) { dice.between(3, 15) } else { dice.between(45, 120) };
        let portal = self.world.portals.iter().position(|portal| portal.tenants.contains(tenant)).unwrap();
        let (hands, Agent { id, keys, .. }) = (&self.world.portals[portal], &self.world.agents[agent]);
        let mut command = Command {
            iss: hands.id.clone(),
            aud: *id,
            tenant: tenant.clone(),
            jti: CommandId::new(&System, &System),
            validity: Validity::starting(hands.clock.now(), Duration::from_secs(lifetime)),
            sub_id: Subject::upn(&account).unwrap(),
            operation: Operation::ResetPassword,
            options: Options { force_change_at_next_logon, ..Options::default() },
            sealed: None,
        };
        let digest = digest(&password);
        let secrets = Secrets { new_password: Password::new(password).unwrap(), current_password: None };
        command.sealed = Some(seal_for(&command, &secrets, &keys.sealing, &System).unwrap());
        let jws = command.sign(&hands.key).unwrap();
        let made = Made {
            command: command.jti,
            tenant: tenant.to_string(),
            agent: *id,
            account,
            digest,
            lifetime_seconds: lifetime,
        };
        self.world.history.record(&Event::Made { at: self.world.history.now(), made });
        Sent { command, jws, portal, agent }
    }

    /// Until there is an end.
    async fn follow(&self, sent: &Arc<Sent>, mut dice: Dice) {
        let (id, exp) = (sent.command.jti, sent.command.validity.exp);
        self.sent.lock().unwrap().push(Arc::clone(sent));
        let hands = &self.world.portals[sent.portal];
        let (mut taken, mut lost, mut pause_ms) = (false, false, 100);
        loop {
            let client = dice.one_of(&hands.clients);
            let wait = dice.millis(0, 10_000);
            // What the relay has lost is sent again, after `exp` too: then it is only a question.
            let said = if taken || (hands.clock.now() >= exp && !lost) {
                self.ask(client, sent, "follow", wait).await
            } else if dice.percent(8) {
                let other = dice.one_of(&hands.clients);
                let (one, two) = tokio::join!(self.submit(client, sent, wait), self.submit(other, sent, wait));
                if is_end(&two) { two } else { one }
            } else if dice.percent(5) {
                let patience = dice.millis(0, 300);
                timeout(patience, self.submit(client, sent, wait))
                    .await
                    .unwrap_or(Said::Nothing { why: "hung up".to_owned() })
            } else {
                self.submit(client, sent, wait).await
            };
            match &said {
                said if is_end(said) => break,
                Said::Going { .. } | Said::Unknown => (taken, lost) = (true, false),
                Said::NotThere => (taken, lost) = (false, true),
                _ => {}
            }
            sleep(dice.millis(pause_ms / 2, pause_ms)).await;
            pause_ms = (pause_ms * 2).min(3_000);
        }
        self.open.lock().unwrap().remove(&id);
        if dice.percent(5) {
            self.submit(dice.one_of(&hands.clients), sent, Duration::ZERO).await;
        }
        if dice.percent(3) {
            self.trespass(sent).await;
        }
    }

    /// Another portal, and the same one in another tenant's name.
    async fn trespass(&self, sent: &Sent) {
        let id = sent.command.jti;
        for portal in &self.world.portals {
            for tenant in portal.tenants.iter().chain([&sent.command.tenant]) {
                if portal.id == sent.command.iss && *tenant == sent.command.tenant {
                    continue;
                }
                let viewed = portal.clients[0].command(tenant, id, Duration::ZERO).await;
                let (at, answer) = (self.world.history.now(), self.judge(viewed, sent));
                self.world.history.record(&Event::Trespassed { at, command: id, answer });
            }
        }
    }

    async fn submit(&self, client: &RelayClient, sent: &Sent, wait: Duration) -> Said {
        let asking = client.submit(&sent.command.tenant, &sent.jws, wait);
        self.recorded(sent, "submit", asking).await
    }

    async fn ask(&self, client: &RelayClient, sent: &Sent, call: &str, wait: Duration) -> Said {
        let (tenant, id): (&TenantId, CommandId) = (&sent.command.tenant, sent.command.jti);
        self.recorded(sent, call, client.command(tenant, id, wait)).await
    }

    async fn recorded(
        &self,
        sent: &Sent,
        call: &str,
        asking: impl Future<Output = Result<CommandView, ClientError>>,
    ) -> Said {
        let history = &self.world.history;
        let asked = history.now();
        let answer = self.judge(asking.await, sent);
        let (command, call, said) = (sent.command.jti, call.to_owned(), answer.clone());
        history.record(&Event::Answered { command, asked, at: history.now(), call, answer });
        said
    }

    /// What an answer means to a portal: what is signed is verified with the pinned key.
    fn judge(&self, answered: Result<CommandView, ClientError>, sent: &Sent) -> Said {
        let nothing = |why: &dyn ToString| Said::Nothing { why: why.to_string() };
        match answered {
            Ok(view) => {
                if let Some(jws) = &view.outcome {
                    let key = &self.world.agents[sent.agent].keys.signing;
                    return match Outcome::verify(jws, key, &sent.command) {
                        Ok(outcome) => {
                            let digest = base64url(&sha256(jws.as_bytes()));
                            Said::Signed { status: outcome.status, code: outcome.code.into_data(), digest }
                        }
                        Err(error) => Said::Forged { why: error.to_string() },
                    };
                }
                if (view.command, view.agent) != (sent.command.jti, sent.command.aud) {
                    return Said::Forged { why: "an answer about another command".to_owned() };
                }
                match view.state {
                    CommandState::Concluded => Said::Forged { why: "concluded without an outcome".to_owned() },
                    CommandState::Undeliverable | CommandState::Expired => {
                        Said::NotDelivered { reason: view.reason.unwrap_or_default().into_data() }
                    }
                    CommandState::Unknown => Said::Unknown,
                    going => Said::Going { state: format!("{going:?}") },
                }
            }
            Err(error @ ClientError::Refused { .. }) => match error.code().map_or("", |code| code.as_data()) {
                reason @ ("no_agent" | "agent_busy" | "draining" | "expired" | "agent_pending" | "agent_revoked"
                | "unknown_agent") => Said::NotDelivered { reason: reason.to_owned() },
                "outcome_unknown" => Said::Unknown,
                "not_found" => Said::NotThere,
                code @ ("store_unavailable" | "store_not_writable" | "internal" | "overloaded" | "rate_limited") => {
                    nothing(&code)
                }
                code => Said::Refused { code: code.to_owned() },
            },
            Err(ClientError::Unreachable { .. }) => nothing(&"unreachable"),
            Err(ClientError::NoAnswer { .. }) => nothing(&"no answer"),
            Err(error) => nothing(&error),
        }
    }
}

fn is_end(said: &Said) -> bool {
    matches!(said, Said::Signed { .. } | Said::NotDelivered { .. } | Said::Forged { .. })
}
