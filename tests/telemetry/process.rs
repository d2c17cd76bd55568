//! What a node says of the process that it is, beside what the kernel says of it.

use crate::support::eventually;
use crate::support::https_client;
use crate::support::relay::{Relay, now};

/// What a node says.
async fn said(relay: &Relay, series: &str) -> f64 {
    let metrics = relay.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
}

/// A number in a file of its process.
fn known(relay: &Relay, file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/{file}", relay.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn files(relay: &Relay) -> f64 {
    let count = std::fs::read_dir(format!("/proc/{}/fd", relay.pid())).unwrap().count();
    f64::from(u32::try_from(count).unwrap())
}

#[tokio::test]
async fn time_memory_and_files_of_a_node_are_those_that_the_kernel_knows() {
    let relay = Relay::start_with_files(512).await;
    let before = said(&relay, "process_cpu_seconds_total").await;
    let resident = said(&relay, "process_resident_memory_bytes").await;
    let known_resident = known(&relay, "status", "VmRSS:") * 1024.0;
    assert!((resident - known_resident).abs() < 0.3 * known_resident, "{resident} {known_resident}");
    let reserved = said(&relay, "process_virtual_memory_bytes").await;
    let known_reserved = known(&relay, "status", "VmSize:") * 1024.0;
    assert!((reserved - known_reserved).abs() < 0.3 * known_reserved, "{reserved} {known_reserved}");
    assert!((said(&relay, "process_max_fds").await - known(&relay, "limits", "Max open files")).abs() < 0.5);
    let started = said(&relay, "process_start_time_seconds").await;
    #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch")]
    let age = now().0 as f64 - started;
    assert!((-2.0..60.0).contains(&age), "{age}");

    // Connections are files.
    let ops = relay.ops_url().replace("http://", "");
    let held: Vec<_> = (0..40).map(|_| std::net::TcpStream::connect(&ops).unwrap()).collect();
    eventually("they are counted", async || {
        let said = said(&relay, "process_open_fds").await;
        said > 40.0 && (said - files(&relay)).abs() < 4.0
    })
    .await;
    drop(held);
    let url = format!("{}/metrics", relay.ops_url());
    let http = https_client(None).unwrap();
    eventually("time passes for it", async || {
        http.get(&url).send().await.unwrap();
        said(&relay, "process_cpu_seconds_total").await > before
    })
    .await;
    let still = said(&relay, "process_start_time_seconds").await;
    assert!((still - started).abs() < f64::EPSILON, "it was started once: {started}, {still}");
}
