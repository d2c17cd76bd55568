//! One of this package's programs as a process. It does not outlive its test.

use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use super::{PATIENCE, eventually_within};

/// SIGSTOP, and the moment when no thread of it runs any more: the signal alone is only on its way.
pub(crate) fn freeze(pid: Pid) {
    kill_process(pid, Signal::STOP).unwrap();
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    let stopped = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything: proc_pid_stat(5), field 3.
        stat.rsplit_once(") ").is_none_or(|(_, behind)| behind.starts_with(['T', 't', 'Z']))
    };
    let begun = std::time::Instant::now();
    while !std::fs::read_dir(&tasks).unwrap().all(stopped) {
        assert!(begun.elapsed() < PATIENCE, "{pid:?} does not stop");
        std::thread::yield_now();
    }
}

/// Whether a process is there, and not only its exit status: proc_pid_stat(5), field 3.
pub(crate) fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, behind)| !behind.starts_with(['Z', 'X']))
}

/// Waits until a process that was just started is of use. If it ends instead, or takes too long, the test fails with what
/// it has written to `log`.
pub(crate) async fn comes_up<F: Future<Output = bool>>(
    what: &str,
    pid: Pid,
    log: &Path,
    mut condition: impl FnMut() -> F,
) {
    let said = || String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let begun = std::time::Instant::now();
    while !condition().await {
        assert!(runs(pid), "{what}: it has ended instead, and said:\n{}", said());
        assert!(begun.elapsed() < PATIENCE, "it took too long: {what}; it said:\n{}", said());
        // Between two looks, not instead of one.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A program that a closed terminal ends, also if these tests were started to outlive theirs (`nohup`).
pub(crate) fn in_a_terminal(program: &str) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", program]);
    command
}

/// A running process. Dropped, it is killed.
pub(crate) struct Process(Child);

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// [`comes_up`].
    pub(crate) async fn comes_up<F: Future<Output = bool>>(
        &self,
        what: &str,
        log: &Path,
        condition: impl FnMut() -> F,
    ) {
        comes_up(what, Pid::from_child(&self.0), log, condition).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// [`freeze`].
    pub(crate) fn freeze(&self) {
        freeze(Pid::from_child(&self.0));
    }

    /// SIGKILL: nothing is finished.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.ended_within(PATIENCE).await
    }

    /// The same of one that has much to do.
    pub(crate) async fn ended_within(&mut self, patience: Duration) -> ExitStatus {
        let mut status = None;
        eventually_within(patience, "the process ends", || {
            status = self.0.try_wait().unwrap();
            std::future::ready(status.is_some())
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
