//! What a process asks of its operating system. Everything that only Unix has stands here and in `storage`.

mod complaint;
pub mod memory;
pub mod process;
pub mod service_manager;
mod signals;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

pub use complaint::{complain, complain_of, complain_of_usage, error_document, wants_json};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

pub use self::signals::{StopSignals, closed_terminal};
use crate::protocol::untrusted::{lines, one_line};

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

/// Writes lines to standard output, with everything spelt out that would do more there than be read ([`lines`]): the
/// last line of defence, since others' words may stand in them. JSON stays what it is. Whoever reads it may have seen
/// enough: a closed pipe or terminal is no error.
///
/// # Errors
/// If it can't be written for another reason.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(lines(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        // The terminal was closed.
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(()),
        written => written,
    }
}

/// The same to standard error. There is nobody to tell if that can't be written.
pub fn print_error(text: &str) {
    let _ = std::io::stderr().lock().write_all(lines(text).as_bytes());
}

/// Has a panic told in the same way: what a program was reading may stand in its message.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let said = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref().map(String::as_str));
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let trace = Backtrace::capture();
        let trace = if trace.status() == BacktraceStatus::Captured { format!("{trace}\n") } else { String::new() };
        print_error(&(panicked(std::thread::current().name(), &place, said.unwrap_or("no text")) + &trace));
    }));
}

fn panicked(thread: Option<&str>, place: &str, said: &str) -> String {
    let line = format!("thread '{}' panicked at {place}: {said}", thread.unwrap_or("<unnamed>"));
    format!("{}\n", one_line(&line))
}

/// How many files this process may have open at a time, connections among them.
#[must_use]
pub fn max_open_files() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX >> 4)
}

/// In how many parts of a second the operating system accounts for CPU time.
#[must_use]
pub fn clock_ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Has the operating system notice a peer that is gone without a word, within some 35 s: bytes that nobody acknowledges
/// end the connection (RFC 5482), and silence is asked into (RFC 9293 §3.8.4).
///
/// # Errors
/// If the operating system refuses.
pub fn notice_dead_peers(connection: &impl AsFd) -> std::io::Result<()> {
    sockopt::set_tcp_user_timeout(connection, 20_000)?; // milliseconds
    sockopt::set_tcp_keepidle(connection, Duration::from_secs(20))?;
    sockopt::set_tcp_keepintvl(connection, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(connection, 3)?;
    Ok(sockopt::set_socket_keepalive(connection, true)?)
}

/// Has the operating system end a connection when what was written to it is not taken for so long (RFC 5482), though the
/// peer is alive and says that it has no room.
///
/// # Errors
/// If the operating system refuses.
pub fn end_unless_taken(connection: &impl AsFd, timeout: Duration) -> std::io::Result<()> {
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(connection, milliseconds)?)
}

/// How much this process can still write to a folder's file system, in bytes.
///
/// # Errors
/// If the operating system refuses.
pub fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Makes a file this long, with its blocks on the disk: to write them later needs no room.
///
/// # Errors
/// If there is no room, or the file system does not promise any.
pub fn allocate(file: &impl AsFd, bytes: u64) -> std::io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes)?)
}

/// The user that this process acts as.
#[must_use]
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The groups whose rights this process has.
#[must_use]
pub fn group_ids() -> Vec<u32> {
    let others = rustix::process::getgroups().unwrap_or_default();
    let own = rustix::process::getegid();
    std::iter::once(own).chain(others).map(rustix::process::Gid::as_raw).collect()
}

/// A user's name, or the number if `/etc/passwd` has none for it.
#[must_use]
pub fn user_name(user_id: u32) -> String {
    let number = user_id.to_string();
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.unwrap_or(number)
}

/// This host's name, for people.
#[must_use]
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_line_whatever_its_message_holds() {
        let said = panicked(None, "src/a.rs:1:2", "not \u{1b}[2J\nthread 'main' panicked\u{202e}");
        let expected = r"thread '<unnamed>' panicked at src/a.rs:1:2: not \u001b[2J\nthread 'main' panicked\u202e";
        assert_eq!(said, format!("{expected}\n"));
    }
}
