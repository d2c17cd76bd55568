//! What the outside sees of running processes: traces, logs, metrics; and that no secret is in them.

mod log_level;
mod metrics;
mod process;
mod revision;
mod trace;
