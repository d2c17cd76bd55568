//! What the outside sees of a running process: logs, metrics, traces.

pub mod metrics;
pub mod trace_context;

use std::io::stderr;

use tracing_subscriber::EnvFilter;

/// Logs as JSON lines on standard error. `filter` is that of `RUST_LOG`, which overrides it.
pub fn log_to_stderr(filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    // A second call (two services in one process) changes nothing.
    let _ = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(stderr).try_init();
}

/// One line of the audit trail: who did what to whom. A macro, so that the fields are the event's own.
#[macro_export]
macro_rules! audit {
    ($action:literal, $($field:tt)*) => {
        tracing::info!(target: "audit", action = $action, $($field)*)
    };
}
