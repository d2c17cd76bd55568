//! One run: a world, load and faults, then healing, waiting, and the verdict.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::time::sleep;
use writeback_relay::clock::{Clock, System};

use crate::checker::{Broken, Findings, Violation, check};
use crate::clock::MAX_SKEW_MS;
use crate::dice::Dice;
use crate::faults::Faults;
use crate::history::{Change, Event, History};
use crate::load::{Load, MARK};
use crate::report;
use crate::world::World;

/// After everything is healed, agents answer by themselves what they can; then they are started anew.
const SETTLED: Duration = Duration::from_secs(30);
/// And then everything has an end.
const RESOLVED: Duration = Duration::from_secs(180);

/// The arguments. Without any, the short run.
#[derive(Parser)]
pub(crate) struct Settings {
    /// At least so many commands.
    #[arg(long, default_value_t = 300)]
    commands: usize,
    /// At least so many faults: one each second.
    #[arg(long, default_value_t = 40)]
    faults: usize,
    /// What is done, and what breaks.
    #[arg(long)]
    seed: Option<u64>,
    /// Keep everything in this folder; otherwise in a temporary one, kept if there are violations.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Run nothing: check the histories that an earlier run has left in this folder.
    #[arg(long)]
    check: Option<PathBuf>,
}

pub(crate) async fn run(settings: Settings) -> ExitCode {
    if let Some(folder) = &settings.check {
        let findings = judge(folder);
        report::print_findings(&findings, folder);
        return if findings.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let seed = settings.seed.unwrap_or_else(|| System.now_ms());
    let temporary = tempfile::Builder::new().prefix("writeback-chaos-").tempdir().unwrap().keep();
    let folder = settings.folder.clone().unwrap_or_else(|| temporary.clone());
    std::fs::create_dir_all(&folder).unwrap();
    println!("seed {seed}, in {}", folder.display());
    let began = Instant::now();
    let world = Arc::new(World::start(&folder, seed).await);
    for (number, portal) in world.portals.iter().enumerate() {
        let mut dice = Dice::of(seed, "portal's clock", u64::try_from(number).unwrap());
        let ms = dice.between(0, 2 * MAX_SKEW_MS);
        portal.clock.set(i64::try_from(ms).unwrap() - i64::try_from(MAX_SKEW_MS).unwrap());
    }
    let (load, faults) = (Load::new(Arc::clone(&world), seed), Faults::new(Arc::clone(&world), seed));
    break_it(&settings, &world, &load, &faults).await;
    heal(&world, &load, &faults).await;
    load.audit().await;
    for process in world.processes() {
        process.kill();
    }
    let mut findings = judge(&folder);
    search_logs(&world, &mut findings);
    report::print_run(seed, began.elapsed(), &faults.counts());
    report::print_findings(&findings, &folder);
    conclude(&findings, &settings, &folder, &temporary)
}

fn judge(folder: &Path) -> Findings {
    check(&History::read(&folder.join("history.jsonl")), &Change::read_all(folder))
}

fn conclude(findings: &Findings, settings: &Settings, folder: &Path, temporary: &Path) -> ExitCode {
    if findings.violations.is_empty() {
        std::fs::remove_dir_all(temporary).unwrap();
        return ExitCode::SUCCESS;
    }
    if settings.folder.is_some() {
        std::fs::remove_dir_all(temporary).unwrap();
    }
    println!("\nhistories and logs are in {}", folder.display());
    ExitCode::FAILURE
}

/// Load and faults, until there was enough of both.
async fn break_it(settings: &Settings, world: &Arc<World>, load: &Arc<Load>, faults: &Arc<Faults>) {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let rate = settings.commands as f64 / settings.faults.max(1) as f64;
    let enough = async {
        let mut said = Instant::now();
        while load.made() < settings.commands || faults.done() < settings.faults {
            sleep(Duration::from_millis(100)).await;
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                println!("{} commands, {} without an end, {} faults", load.made(), load.open(), faults.done());
            }
        }
    };
    tokio::select! {
        () = enough => {}
        () = load.go_on(rate) => {}
        () = faults.go_on() => {}
        () = world.supervise() => {}
    }
}

async fn heal(world: &Arc<World>, load: &Arc<Load>, faults: &Arc<Faults>) {
    let resolved = async {
        faults.heal().await;
        world.history.record(&Event::Healed { at: world.history.now() });
        println!("healed; {} commands without an end", load.open());
        none_open(load, SETTLED).await;
        println!("agents are started anew; {} commands without an end", load.open());
        for agent in &world.agents {
            agent.process.kill();
            agent.process.start();
        }
        world.history.record(&Event::Restarted { at: world.history.now() });
        none_open(load, RESOLVED).await;
        println!("{} commands without an end", load.open());
        load.stop().await;
    };
    tokio::select! {
        () = resolved => {}
        () = world.supervise() => {}
    }
}

async fn none_open(load: &Load, patience: Duration) {
    let until = Instant::now() + patience;
    while load.open() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(100)).await;
    }
}

/// A panic is a fault of the program; a password in a log is a leak.
fn search_logs(world: &World, findings: &mut Findings) {
    for process in world.processes() {
        let log = process.log();
        for (word, detail) in [("panicked at", "it has panicked"), (MARK, "a password is in its log")] {
            if log.contains(word) {
                let detail = format!("{}: {detail}", process.name);
                findings.violations.push(Violation { broken: Broken::Died, command: None, detail });
            }
        }
    }
}
