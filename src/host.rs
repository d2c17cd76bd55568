//! What a process asks of its operating system. Everything that only Unix has stands here and in `storage`.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Lets no core of this process be written, and no other process of the same user read its memory: passwords and keys
/// are in it.
///
/// # Errors
/// If the operating system refuses.
pub fn forbid_core_dumps() -> std::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// If the signals can't be listened to.
pub async fn stop_requested() -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// This host's name, for people.
#[must_use]
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
