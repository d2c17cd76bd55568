//! One attack after the other, each on a node of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::attack::{Attack, By, Node};
use crate::attacker::{self, AgentSeat, Orders, TenantSeat};
use crate::confined::Cgroup;
use crate::legitimate::Legitimate;
use crate::measured::{Account, Served};
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::relay::Relay;
use crate::verdict::{Before, Recovery, Verdict};
use crate::watch::{self, Watch};
use crate::wire::Sources;
use crate::{arithmetic, attacks, report};

/// The attacker's tenant.
const FABRIKAM: &str = "fabrikam";
/// An attacker who does not end by himself is ended after this.
const OVERTIME: Duration = Duration::from_secs(5);
/// After the attack, everything is as before within this time.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// What the short form sends at most for each variant.
const BUDGET: u64 = 32 * 1024 * 1024;

/// The arguments. Without any, the short form: every attack for some seconds, all its variants at once.
#[derive(Parser)]
pub(crate) struct Settings {
    /// Each variant alone, from one address and from many, with four times as many hands, for half a minute.
    #[arg(long)]
    long: bool,
    /// Each variant alone.
    #[arg(long)]
    alone: bool,
    /// How long each attack lasts, in seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Where the attackers come from.
    #[arg(long, value_enum)]
    from: Option<From>,
    /// Only attacks, or variants, whose name holds this.
    attack: Option<String>,
    /// Write the table into this document, between its markers.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Attack nothing: measure what one connection of each kind costs, and say what follows for large nodes.
    #[arg(long)]
    arithmetic: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum From {
    /// One address.
    One,
    /// Many.
    Many,
    /// Half so, half so.
    Both,
}

/// One attack as it is carried out.
struct Plan {
    attack: &'static Attack,
    variant: Option<&'static str>,
    sources: Sources,
    seconds: u64,
    scale: usize,
}

impl Plan {
    fn name(&self) -> String {
        let variant = self.variant.map(|name| format!(": {name}")).unwrap_or_default();
        let from = match self.sources {
            Sources::One => ", one address",
            Sources::Many => ", many addresses",
            Sources::Both | Sources::Home => "",
        };
        format!("{}{variant}{from}", self.attack.name)
    }
}

impl Settings {
    fn plans(&self) -> Vec<Plan> {
        let (seconds, scale) = if self.long { (30, 4) } else { (6, 1) };
        let seconds = self.seconds.unwrap_or(seconds);
        let sources = match self.from {
            Some(From::One) => vec![Sources::One],
            Some(From::Many) => vec![Sources::Many],
            None if self.long => vec![Sources::One, Sources::Many],
            Some(From::Both) | None => vec![Sources::Both],
        };
        let mut plans = Vec::new();
        for attack in attacks::all() {
            let alone = self.long || self.alone;
            let variants = if alone { attack.variants.iter().map(|it| Some(it.name)).collect() } else { vec![None] };
            for variant in variants {
                for sources in sources.clone() {
                    plans.push(Plan { attack, variant, sources, seconds, scale });
                }
            }
        }
        plans.retain(|plan| self.attack.as_ref().is_none_or(|part| plan.name().contains(part)));
        plans
    }
}

pub(crate) async fn run(settings: Settings) -> ExitCode {
    if settings.arithmetic {
        println!("{}", arithmetic::measure().await);
        return ExitCode::SUCCESS;
    }
    let plans = settings.plans();
    assert!(!plans.is_empty(), "no attack has this name");
    let cgroup = Cgroup::new();
    match &cgroup {
        Some(_) => println!("each node is in a cgroup of 512 MiB"),
        None => println!("no cgroup can be had here: each node is watched, and ended above 512 MiB"),
    }
    let (begun, mut verdicts) = (Instant::now(), Vec::new());
    for plan in &plans {
        println!("\n{}", plan.name());
        let verdict = carry_out(plan, cgroup.as_ref()).await;
        println!("{verdict}");
        verdicts.push(verdict);
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.faults().is_empty()).count();
    let table = report::table(&verdicts);
    println!("\n{table}\n{} attacks in {} s, {failed} did harm", verdicts.len(), begun.elapsed().as_secs());
    if let Some(document) = &settings.write {
        report::write(document, &table);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A node, and everybody who uses it.
struct Scene {
    relay: Relay,
    legitimate: Legitimate,
    tenant: Option<TenantSeat>,
    _redis: Option<Redis>,
}

impl Scene {
    async fn set(attack: &Attack, cgroup: Option<&Cgroup>) -> Self {
        let Node { files, redis_mib } = attack.node;
        let redis = match redis_mib {
            Some(mib) => {
                let limits = format!("maxmemory {mib}mb\nmaxmemory-policy noeviction");
                Some(Redis::single_with(&limits).await)
            }
            None => None,
        };
        let mut before = "export RUST_LOG=info && ".to_owned();
        before.extend(cgroup.map(Cgroup::enter));
        before.extend(files.map(|files| format!("ulimit -n {files} && ")));
        let store = redis
            .as_ref()
            .map(|redis| format!("store = \"redis\"\n{}", redis.settings(&redis.config().cluster_key_file)));
        let settings = format!("{}[client_address]\nfrom = \"connection\"\n", store.unwrap_or_default());
        let relay = Relay::start_after(&before, &settings).await;
        let legitimate = Legitimate::start(&relay).await;
        let tenant = match attack.by {
            By::Stranger => None,
            By::Tenant { pending, approved } => Some(tenant(&relay, pending, approved).await),
        };
        Self { relay, legitimate, tenant, _redis: redis }
    }
}

/// The attacker's tenant, its portal and its agents: made as every tenant's are.
async fn tenant(relay: &Relay, pending: usize, approved: usize) -> TenantSeat {
    let name = FABRIKAM.parse::<writeback_relay::protocol::ids::TenantId>().unwrap();
    relay.admin().add_tenant(name.clone()).await.unwrap();
    let portal = relay.portal("portal-2").await;
    relay.grant(&portal.raw.id, portal.raw.key.public(), &[FABRIKAM]).await;
    let mut seat = TenantSeat {
        tenant: name.clone(),
        portal: portal.raw.id.clone(),
        portal_jwk: portal.raw.key.to_jwk().to_string(),
        pending: Vec::new(),
        approved: Vec::new(),
    };
    for _ in 0..pending {
        seat.pending.push(AgentSeat::of(&RawAgent::pending_in(name.clone(), relay, &portal).await));
    }
    for _ in 0..approved {
        seat.approved.push(AgentSeat::of(&RawAgent::enrolled_in(name.clone(), relay, &portal).await));
    }
    seat
}

async fn carry_out(plan: &Plan, cgroup: Option<&Cgroup>) -> Verdict {
    let Scene { mut relay, legitimate, tenant, _redis } = Scene::set(plan.attack, cgroup).await;
    let pid = relay.pid();
    let normal = [legitimate.once().await, legitimate.once().await].concat();
    let failed = normal.iter().find(|served| served.refused.is_some());
    assert!(failed.is_none(), "something fails without an attack: {failed:?}");
    let before = Before { normal, resident: watch::resident(pid), files: watch::files(pid) };
    let (cpu, logged, begun) = (watch::cpu(pid), relay.logged(), Instant::now());
    let stored = watch::stored(&relay.data_dir());
    let watching = Watch::start(pid);
    let orders = Orders {
        attack: plan.attack.name.to_owned(),
        variant: plan.variant.map(str::to_owned),
        target: relay.public_addr(),
        url: relay.url(),
        ca: relay.ca_file(),
        sources: plan.sources,
        seconds: plan.seconds,
        scale: plan.scale,
        budget: BUDGET * u64::try_from(plan.scale).unwrap(),
        tenant,
    };
    let mut attacking = Attacking::begin(&orders);
    let mut cost = (Duration::ZERO, Duration::ZERO, 0, Duration::ZERO);
    let served = legitimate
        .each_second(async {
            let until = Instant::now() + Duration::from_secs(plan.seconds) + OVERTIME;
            while attacking.goes_on() && Instant::now() < until {
                // Of a process that has ended, nobody can ask it any more.
                let attacker_cpu = watch::cpu(attacking.process.id());
                let node_cpu = watch::cpu(pid).saturating_sub(cpu).max(cost.1);
                cost = (attacker_cpu, node_cpu, relay.logged() - logged, begun.elapsed());
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    let accounts = attacking.end();
    let (attacker_cpu, cpu, logged, lasted) = cost;
    let operator = revoke(&relay, orders.tenant.as_ref()).await;
    let recovery = recover(&mut relay, &legitimate, &before).await;
    Verdict {
        name: plan.name(),
        accounts,
        attacker_cpu,
        lasted,
        peak: watching.peak(),
        cpu,
        logged,
        stored: watch::stored(&relay.data_dir()).saturating_sub(stored),
        served,
        lost: legitimate.lost(),
        before,
        operator,
        recovery,
    }
}

/// What an operator does about it, while all is still there that the attack has left; why he can't, if he can't.
async fn revoke(relay: &Relay, tenant: Option<&TenantSeat>) -> Option<String> {
    let admin = relay.admin();
    let tenant = tenant?;
    for agent in tenant.pending.iter().chain(&tenant.approved) {
        let revoking = timeout(BACK_WITHIN, admin.revoke_agent(&tenant.tenant, agent.agent)).await;
        match revoking {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Some(error.to_string()),
            Err(_) => return Some("no answer".to_owned()),
        }
    }
    None
}

/// Whether all is as before within some seconds; what is not, if not.
async fn recover(relay: &mut Relay, legitimate: &Legitimate, before: &Before) -> Recovery {
    let begun = Instant::now();
    loop {
        if let Some(status) = relay.has_ended() {
            return Recovery::Ended(status.to_string());
        }
        let served: Vec<Served> = legitimate.once().await;
        let left = before.left(&served, watch::resident(relay.pid()), watch::files(relay.pid()));
        if left.is_empty() {
            return Recovery::After(begun.elapsed());
        }
        if begun.elapsed() > BACK_WITHIN {
            return Recovery::Not(left);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The attacker's process. Dropped, it is killed.
struct Attacking {
    process: Child,
    folder: TempDir,
}

impl Attacking {
    fn begin(orders: &Orders) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orders.json");
        std::fs::write(&file, serde_json::to_vec(orders).unwrap()).unwrap();
        // On another host he would take no time from the node and its users.
        let mut command = Command::new("nice");
        command.args(["-n", "10"]).arg(std::env::current_exe().unwrap()).arg(attacker::ROLE).arg(&file);
        let output = File::create(output(folder.path())).unwrap();
        let process = command.stdin(Stdio::null()).stdout(output).spawn().unwrap();
        Self { process, folder }
    }

    fn goes_on(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// What he has spent. An attacker who has failed is a fault of this program.
    fn end(mut self) -> Vec<Account> {
        let status = self.process.try_wait().unwrap().expect("the attacker did not end in time");
        assert!(status.success(), "the attacker: {status}");
        serde_json::from_slice(&std::fs::read(output(self.folder.path())).unwrap()).unwrap()
    }
}

impl Drop for Attacking {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn output(folder: &Path) -> PathBuf {
    folder.join("spent.json")
}
