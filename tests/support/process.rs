//! One of this package's programs as a process. It does not outlive its test.

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
