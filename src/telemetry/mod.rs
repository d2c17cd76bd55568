//! What the outside sees of a running process: logs, metrics, traces.

pub mod agent_metrics;
pub mod limit;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod trace;
pub mod trace_context;

/// Logs on standard error, as text at a terminal and as JSON lines elsewhere. `filter` is that of `RUST_LOG`, which overrides
/// it.
pub fn log_to_stderr(filter: &str) {
    log::start(filter, None);
}

/// One line of the audit trail: who did what to whom. A macro, so that the fields are the event's own.
#[macro_export]
macro_rules! audit {
    ($action:literal, $($field:tt)*) => {
        tracing::info!(target: "audit", action = $action, $($field)*)
    };
}
