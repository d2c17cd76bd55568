//! What the outside sees of a running process: logs, metrics, traces.

pub mod agent_metrics;
pub mod limit;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod trace;
pub mod trace_context;

/// Logs as JSON lines on standard error. `filter` is that of `RUST_LOG`, which overrides it.
pub fn log_to_stderr(filter: &str) {
    log::start(filter, log::Format::Json);
}

/// One line of the audit trail: who did what to whom. A macro, so that the fields are the event's own.
#[macro_export]
macro_rules! audit {
    ($action:literal, $($field:tt)*) => {
        tracing::info!(target: "audit", action = $action, $($field)*)
    };
}
