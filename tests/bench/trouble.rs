use std::fs;

use rustix::process::{Pid, kill_process};

use super::{Bench, run, start};
use crate::support::eventually;
use crate::support::process::Signal;

/// Far longer than any test.
const LONG: &[&str] =
    &["commands", "--agents", "10", "--in-flight", "8", "--commands", "100", "--rounds", "1000000", "--subjects"];

/// On the command line of a relay node.
const NODE: &str = " node ";

/// The one sentence in which it says what is wrong.
async fn refusal(before: &str, arguments: &[&str]) -> String {
    let said = run(before, arguments).await;
    assert!(!said.status.success() && said.out.is_empty(), "{arguments:?}: {}{}", said.out, said.err);
    assert_eq!(said.err.trim_end().lines().count(), 1, "{arguments:?}: {}", said.err);
    said.err
}

/// A run of which commands are under way; its server's process. That has used more CPU time by then, in hundredths of a
/// second, than its start and ten connections take.
async fn under_way(subject: &str, server: &str, used: u64) -> (Bench, Pid) {
    let mut bench = start("", &[LONG, &[subject]].concat());
    let mut found = None;
    eventually("commands are under way", || {
        assert!(bench.process.is_running(), "{}", bench.err());
        let pid = bench.processes().into_iter().find(|(_, line)| line.contains(server)).map(|(pid, _)| pid);
        found = pid.filter(|pid| ticks(*pid) >= used);
        std::future::ready(found.is_some())
    })
    .await;
    (bench, Pid::from_raw(found.unwrap()).unwrap())
}

/// CPU time: proc_pid_stat(5), fields 14 and 15, in hundredths of a second.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, behind)| behind).split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_is_named_and_nothing_stays_behind() {
    for (subject, server, used) in [("relay", NODE, 30), ("floor", " floor ", 15), ("nats", "nats-server -c", 10)] {
        let (bench, pid) = under_way(subject, server, used).await;
        kill_process(pid, Signal::KILL).unwrap();
        let said = bench.ended().await;
        assert!(!said.status.success() && said.out.is_empty(), "{subject}: {}", said.err);
        let named = format!("(process {}) died in the middle: signal: 9", pid.as_raw_nonzero());
        assert!(said.err.contains(&named), "{subject}: {}", said.err);
    }
}

#[tokio::test]
async fn a_run_that_is_stopped_leaves_nothing_behind() {
    for signal in [Signal::TERM, Signal::INT] {
        let (bench, _) = under_way("relay", NODE, 30).await;
        bench.process.signal(signal);
        let said = bench.ended().await;
        assert!(!said.status.success() && said.err == "writeback-bench: stopped\n", "{signal:?}: {}", said.err);
    }
}

#[tokio::test]
async fn servers_and_agents_end_with_a_bench_that_is_killed() {
    let (mut bench, _) = under_way("relay", NODE, 30).await;
    bench.process.kill();
    eventually("all have ended", || std::future::ready(bench.processes().is_empty())).await;
}

#[tokio::test]
async fn too_few_files_are_said_in_one_sentence_before_anything_starts() {
    for (limit, arguments) in [
        (256, &["all"][..]),
        (256, &["commands"]),
        (256, &["storm"]),
        (256, &["rate"]),
        (256, &["cluster"]),
        // Enough for the first of two.
        (1300, &["idle"]),
        (1300, &["all"]),
    ] {
        let said = refusal(&format!("ulimit -n {limit}"), arguments).await;
        assert!(said.contains(&format!("it may have {limit}: raise \"ulimit -n\"")), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_document_without_a_place_for_figures_is_refused_before_anything_starts() {
    let missing = refusal("", &["all", "--write", "/nowhere/performance.md"]).await;
    assert!(missing.contains("/nowhere/performance.md"), "{missing}");
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let other = refusal("", &["all", "--write", readme]).await;
    assert!(other.contains("README.md lacks the lines <!-- generated: begin -->"), "{other}");
}

#[tokio::test]
async fn a_bad_argument_is_a_clear_error() {
    for (measure, argument, value) in [
        ("commands", "--agents", "0"),
        ("commands", "--portals", "0"),
        ("commands", "--in-flight", "0"),
        ("commands", "--commands", "0"),
        ("commands", "--rounds", "0"),
        ("commands", "--in-flight", "18446744073709551615"),
        ("idle", "--agents", "1000,1"),
        ("idle", "--settle-seconds", "-1"),
        ("storm", "--agents", "0"),
        ("storm", "--rounds", "0"),
        ("rate", "--rates", "0"),
        ("rate", "--rates", "100,NaN"),
        ("rate", "--rates", "inf"),
        ("rate", "--connections", "0"),
        ("rate", "--seconds", "0"),
        ("cluster", "--nodes", "0"),
        ("cluster", "--nodes", "1,x"),
        ("commands", "--subjects", "kafka"),
    ] {
        let said = run("", &[measure, &format!("{argument}={value}")]).await;
        assert_eq!(said.status.code(), Some(2), "{measure} {argument} {value}: {}", said.err);
        let first = said.err.lines().next().unwrap();
        assert!(first.contains("invalid value") && first.contains(argument), "{first}");
    }
    assert!(refusal("", &["idle", "--subjects", "floor"]).await.contains("relay and nats"));
}
