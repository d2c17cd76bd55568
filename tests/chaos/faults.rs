//! What breaks, when, and for how long. The plan follows from the seed.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

use crate::clock::MAX_SKEW_MS;
use crate::dice::Dice;
use crate::history::Event;
use crate::process::Process;
use crate::proxy::{Mode, Proxy};
use crate::world::{REDIS_PORT, World};

/// Something breaks this often.
const EVERY: Duration = Duration::from_secs(1);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    KillNode,
    DrainNode,
    FreezeNode,
    SkewNode,
    NodeFromRedis,
    KillAgent,
    StopAgent,
    FreezeAgent,
    SkewAgent,
    AgentLink,
    Front,
    KillRedis,
    FreezeRedis,
    EmptyRedis,
    KillDirectory,
}

/// How often each kind is in the pack; the pack is shuffled when it is used up.
const PACK: [(Kind, usize); 15] = [
    (Kind::KillNode, 4),
    (Kind::DrainNode, 3),
    (Kind::FreezeNode, 2),
    (Kind::SkewNode, 2),
    (Kind::NodeFromRedis, 4),
    (Kind::KillAgent, 6),
    (Kind::StopAgent, 2),
    (Kind::FreezeAgent, 2),
    (Kind::SkewAgent, 2),
    (Kind::AgentLink, 6),
    (Kind::Front, 3),
    (Kind::KillRedis, 2),
    (Kind::FreezeRedis, 1),
    (Kind::EmptyRedis, 1),
    (Kind::KillDirectory, 2),
];

/// The kinds of fault, in the order of the seed, for ever.
struct Plan {
    seed: u64,
    round: u64,
    pack: Vec<Kind>,
}

impl Plan {
    fn next(&mut self) -> Kind {
        if let Some(kind) = self.pack.pop() {
            return kind;
        }
        self.pack = PACK.iter().flat_map(|(kind, times)| std::iter::repeat_n(*kind, *times)).collect();
        let mut dice = Dice::of(self.seed, "pack", self.round);
        self.round += 1;
        for at in (1..self.pack.len()).rev() {
            self.pack.swap(at, dice.index(at + 1));
        }
        self.next()
    }
}

/// Breaks one thing after another.
pub(crate) struct Faults {
    world: Arc<World>,
    seed: u64,
    /// What is broken now: nothing is broken twice at a time.
    broken: Mutex<HashSet<String>>,
    counts: Mutex<BTreeMap<String, usize>>,
    done: AtomicUsize,
    mending: TaskTracker,
}

impl Faults {
    pub(crate) fn new(world: Arc<World>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            world,
            seed,
            broken: Mutex::default(),
            counts: Mutex::default(),
            done: AtomicUsize::new(0),
            mending: TaskTracker::new(),
        })
    }

    /// So many things have been broken.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// By kind.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.lock().unwrap().clone()
    }

    /// Breaks something every second, for ever.
    pub(crate) async fn go_on(self: &Arc<Self>) {
        let mut plan = Plan { seed: self.seed, round: 0, pack: Vec::new() };
        let (mut number, mut next) = (0, Instant::now());
        loop {
            next += EVERY;
            sleep_until(next).await;
            loop {
                let mut dice = Dice::of(self.seed, "fault", number);
                number += 1;
                if self.begin(plan.next(), &mut dice) {
                    break;
                }
            }
        }
    }

    /// Mends everything.
    pub(crate) async fn heal(&self) {
        self.mending.close();
        self.mending.wait().await;
        let world = &self.world;
        for node in &world.nodes {
            node.redis.set(Mode::Pass);
        }
        for process in world.processes() {
            process.skew(0);
        }
        for portal in &world.portals {
            portal.clock.set(0);
        }
    }

    /// Whether it could be begun: its target may be broken already.
    fn begin(self: &Arc<Self>, kind: Kind, dice: &mut Dice) -> bool {
        let world = &self.world;
        let (node, agent) = (dice.index(world.nodes.len()), dice.index(world.agents.len()));
        let directory = dice.index(world.directories.len());
        let target = match kind {
            Kind::KillNode | Kind::DrainNode | Kind::FreezeNode => world.nodes[node].process.name.clone(),
            Kind::KillAgent | Kind::StopAgent | Kind::FreezeAgent => world.agents[agent].process.name.clone(),
            Kind::SkewNode => format!("the clock of {}", world.nodes[node].process.name),
            Kind::SkewAgent => format!("the clock of {}", world.agents[agent].process.name),
            Kind::NodeFromRedis => format!("{} to redis", world.nodes[node].process.name),
            Kind::AgentLink => format!("{} to nodes", world.agents[agent].process.name),
            Kind::Front => "portals to nodes".to_owned(),
            Kind::KillRedis | Kind::FreezeRedis | Kind::EmptyRedis => "redis".to_owned(),
            Kind::KillDirectory => world.directories[directory].process.name.clone(),
        };
        if !self.broken.lock().unwrap().insert(target.clone()) {
            return false;
        }
        let (faults, mut dice) = (Arc::clone(self), dice.clone());
        self.done.fetch_add(1, Ordering::Relaxed);
        self.mending.spawn(async move {
            faults.run(kind, &target, [node, agent, directory], &mut dice).await;
            faults.broken.lock().unwrap().remove(&target);
        });
        true
    }

    async fn run(&self, kind: Kind, target: &str, [node, agent, directory]: [usize; 3], dice: &mut Dice) {
        let world = &self.world;
        let (node, agent) = (&world.nodes[node], &world.agents[agent]);
        let noted = |what: &str, how: String| self.note(what, target, how);
        match kind {
            Kind::KillNode => self.kill("kill -9 of a node", &node.process, dice.millis(0, 4_000)).await,
            Kind::KillAgent => self.kill("kill -9 of an agent", &agent.process, dice.millis(0, 6_000)).await,
            Kind::KillDirectory => {
                let process = &world.directories[directory].process;
                self.kill("kill -9 of a directory", process, dice.millis(0, 2_000)).await;
            }
            Kind::DrainNode => self.stop("SIGTERM of a node", &node.process, dice.millis(0, 2_000)).await,
            Kind::StopAgent => self.stop("SIGTERM of an agent", &agent.process, dice.millis(0, 4_000)).await,
            Kind::FreezeNode => self.freeze("a frozen node", &node.process, dice.millis(500, 8_000)).await,
            Kind::FreezeAgent => self.freeze("a frozen agent", &agent.process, dice.millis(500, 8_000)).await,
            Kind::SkewNode => {
                noted("a node's clock", skew(&node.process, dice));
            }
            Kind::SkewAgent => {
                noted("an agent's clock", skew(&agent.process, dice));
            }
            Kind::NodeFromRedis => self.cut_off("a node's way to redis", target, &node.redis, dice, 5_000).await,
            Kind::AgentLink => self.cut_off("an agent's way to the nodes", target, &agent.link, dice, 8_000).await,
            Kind::Front => self.cut_off("the portals' way to the nodes", target, &world.front, dice, 4_000).await,
            Kind::KillRedis => {
                let pause = dice.millis(0, 3_000);
                noted("kill -9 of redis", format!("{pause:?}"));
                world.redis.kill(REDIS_PORT).await;
                sleep(pause).await;
                world.redis.start_again(REDIS_PORT).await;
            }
            Kind::FreezeRedis => {
                let pause = dice.millis(500, 4_000);
                noted("a frozen redis", format!("{pause:?}"));
                world.redis.freeze(REDIS_PORT);
                sleep(pause).await;
                world.redis.thaw(REDIS_PORT);
            }
            Kind::EmptyRedis => {
                noted("redis comes back empty", String::new());
                world.redis.flush();
                world.redis.kill(REDIS_PORT).await;
                world.history.record(&Event::Emptied { at: world.history.now() });
                world.redis.start_again(REDIS_PORT).await;
                sleep(dice.millis(0, 1_000)).await;
                world.restore_registry().await;
            }
        }
    }

    fn note(&self, what: &str, target: &str, how: String) {
        *self.counts.lock().unwrap().entry(what.to_owned()).or_default() += 1;
        let at = self.world.history.now();
        self.world.history.record(&Event::Broke { at, fault: format!("{what}: {target}"), how });
    }

    async fn kill(&self, what: &str, process: &Process, pause: Duration) {
        self.note(what, &process.name, format!("down for {pause:?}"));
        process.kill();
        sleep(pause).await;
        process.start();
    }

    async fn stop(&self, what: &str, process: &Process, pause: Duration) {
        self.note(what, &process.name, format!("down for {pause:?}"));
        process.stop().await;
        sleep(pause).await;
        process.start();
    }

    async fn freeze(&self, what: &str, process: &Process, pause: Duration) {
        self.note(what, &process.name, format!("for {pause:?}"));
        process.freeze();
        sleep(pause).await;
        process.thaw();
    }

    async fn cut_off(&self, what: &str, target: &str, proxy: &Proxy, dice: &mut Dice, longest_ms: u64) {
        let pause = dice.millis(300, longest_ms);
        let delay = Mode::Delay(dice.millis(20, 700));
        let modes = [
            ("cut", Some(Mode::Cut)),
            ("nothing passes", Some(Mode::Hold { up: true, down: true })),
            ("requests do not pass", Some(Mode::Hold { up: true, down: false })),
            ("answers do not pass", Some(Mode::Hold { up: false, down: true })),
            ("delay", Some(delay)),
            ("half open", None),
        ];
        let (name, mode) = *dice.one_of(&modes);
        self.note(&format!("{what}: {name}"), target, format!("{mode:?} for {pause:?}"));
        match mode {
            Some(mode) => {
                proxy.set(mode);
                sleep(pause).await;
                proxy.set(Mode::Pass);
            }
            None => {
                proxy.stall_open();
                sleep(pause * 2).await;
                proxy.close_stalled();
            }
        }
    }
}

fn skew(process: &Process, dice: &mut Dice) -> String {
    let ms = i64::try_from(dice.between(0, 2 * MAX_SKEW_MS)).unwrap() - i64::try_from(MAX_SKEW_MS).unwrap();
    process.skew(ms);
    format!("{ms} ms")
}
