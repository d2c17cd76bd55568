//! A process in one of the roles, from outside: started, killed, frozen, asked to stop, its clock set.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::roles::Role;

/// Whoever is asked to stop may take so long, and is killed then.
const STOP: Duration = Duration::from_secs(15);

/// A process, whether it runs or not.
pub(crate) struct Process {
    pub(crate) name: String,
    role: Role,
    /// Where its outbound HTTPS goes through, if it is to go through anything.
    https_proxy: Option<String>,
    log: PathBuf,
    now: Mutex<Now>,
}

struct Now {
    child: Option<Child>,
    skew_ms: i64,
}

impl Process {
    pub(crate) fn new(name: &str, role: Role, https_proxy: Option<String>, log: PathBuf) -> Self {
        let now = Mutex::new(Now { child: None, skew_ms: 0 });
        Self { name: name.to_owned(), role, https_proxy, log, now }
    }

    /// Starts it, unless it runs.
    pub(crate) fn start(&self) {
        let mut now = self.now.lock().unwrap();
        if now.child.is_some() {
            return;
        }
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(self.role.arguments()).env("RUST_LOG", "info");
        if let Some(proxy) = &self.https_proxy {
            for name in ["NO_PROXY", "no_proxy", "https_proxy"] {
                command.env_remove(name);
            }
            command.env("HTTPS_PROXY", proxy);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        tell(&mut child, now.skew_ms);
        now.child = Some(child);
    }

    /// SIGKILL: nothing is finished.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.now.lock().unwrap().child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and waits until it has ended.
    pub(crate) async fn stop(&self) {
        let Some(mut child) = self.now.lock().unwrap().child.take() else { return };
        signal(&child, Signal::TERM);
        let until = Instant::now() + STOP;
        while child.try_wait().unwrap().is_none() && Instant::now() < until {
            sleep(Duration::from_millis(20)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGSTOP: it does nothing more, and its sockets stay open.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, what: Signal) {
        if let Some(child) = &self.now.lock().unwrap().child {
            signal(child, what);
        }
    }

    /// How far its clock is off, from now on and after every start.
    pub(crate) fn skew(&self, ms: i64) {
        let mut now = self.now.lock().unwrap();
        now.skew_ms = ms;
        if let Some(child) = &mut now.child {
            tell(child, ms);
        }
    }

    /// How it has ended, if it has by itself since it was started.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        let mut now = self.now.lock().unwrap();
        let status = now.child.as_mut()?.try_wait().unwrap()?;
        now.child = None;
        Some(status)
    }

    /// All it has logged, over restarts.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(child: &Child, what: Signal) {
    // It may have ended already.
    let _ = kill_process(Pid::from_child(child), what);
}

fn tell(child: &mut Child, skew_ms: i64) {
    // It may have ended already.
    let _ = writeln!(child.stdin.as_mut().unwrap(), "{skew_ms}");
}
