//! What a process is told by signals: to stop, to read its files again, or that its terminal is gone.
//!
//! SIGHUP has two meanings. The kernel, and a shell that ends, say with it that the terminal is closed: whatever was begun
//! there ends in good order. Everybody else (`systemctl reload`, `kill -HUP`, logrotate) says: read again. They are told apart
//! by the terminal itself, which is there or not.

use std::fs::File;
use std::future::pending;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// How often it is looked, after a SIGHUP, whether the terminal has gone: a shell passes it on a moment before that.
const LOOKS: u32 = 10;
/// Between two of those.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// SIGTERM, SIGINT, and SIGHUP, caught from the moment this is made.
#[derive(Debug)]
pub struct StopSignals {
    term: Signal,
    int: Signal,
    hangup: Hangups,
    /// Looks that are left.
    looks: u32,
    /// Once asked to stop, no hangup is a second request: nobody has asked twice.
    stopping: bool,
}

impl StopSignals {
    /// Begins to catch them: before the process says that it is ready.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn catch() -> std::io::Result<Self> {
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { term, int, hangup: Hangups::catch()?, looks: 0, stopping: false })
    }

    /// Resolves when the process is asked to stop. A closed terminal asks once at most: its shell passes SIGHUP on, and the
    /// kernel sends another one when the shell is gone. Whenever it is asked to read its files again, `reload` is called.
    pub async fn next(&mut self, mut reload: impl FnMut()) {
        loop {
            tokio::select! {
                biased;
                _ = self.term.recv() => break,
                _ = self.int.recv() => break,
                () = self.hangup.next(), if !self.stopping => {
                    if self.hangup.terminal_is_closed() {
                        break;
                    }
                    self.looks = LOOKS;
                    reload();
                }
                () = sleep(LOOK_EVERY), if self.looks > 0 && !self.stopping => {
                    self.looks -= 1;
                    if self.hangup.terminal_is_closed() {
                        break;
                    }
                }
            }
        }
        self.stopping = true;
    }
}

/// Resolves when the terminal that this process was started from is closed; never, if there was none. No SIGHUP ends the
/// process from the moment when this is called: what was begun ends by itself, or with whoever waits here.
///
/// # Errors
/// If the operating system refuses.
pub fn closed_terminal() -> std::io::Result<impl Future<Output = ()>> {
    let mut hangups = Hangups::catch()?;
    Ok(async move {
        loop {
            hangups.next().await;
            for _ in 0..LOOKS {
                if hangups.terminal_is_closed() {
                    return;
                }
                sleep(LOOK_EVERY).await;
            }
        }
    })
}

#[derive(Debug)]
struct Hangups {
    /// None if whoever started the process has it ignore them, as `nohup` does.
    signals: Option<Signal>,
    had_terminal: bool,
}

impl Hangups {
    fn catch() -> std::io::Result<Self> {
        let signals = if are_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { signals, had_terminal: has_terminal() })
    }

    async fn next(&mut self) {
        match &mut self.signals {
            Some(signals) => drop(signals.recv().await),
            None => pending().await,
        }
    }

    fn terminal_is_closed(&self) -> bool {
        self.had_terminal && !has_terminal()
    }
}

/// Whether there is a terminal that controls this process: tty(4).
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether SIGHUP was ignored already when this process began: the lowest bit of `SigIgn`, proc_pid_status(5).
fn are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}
