//! Does to a real process what kubelet and a container runtime do to a container: its volume is given to the pod's group, it
//! runs as the pod's user on a root that nobody can write to, it is probed by commands and over HTTP until it has failed often
//! enough, and it is stopped: the hook, SIGTERM, what is left of the grace period, SIGKILL. Needs root, as kubelet does.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use super::process::{Process, Signal};
use super::{https_client, within};

/// A pod's `fsGroupChangePolicy`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangePolicy {
    Always,
    OnRootMismatch,
}

/// `SetVolumeOwnership` of kubelet's pkg/volume/volume_linux.go, for a volume that can be written to: the owners stay.
pub(crate) fn set_volume_ownership(volume: &Path, fs_group: u32, policy: ChangePolicy) {
    let root = fs::metadata(volume).unwrap();
    let matches = root.gid() == fs_group && root.mode() & 0o2770 == 0o2770;
    if policy == ChangePolicy::Always || !matches {
        give(volume, fs_group);
    }
}

fn give(path: &Path, group: u32) {
    lchown(path, None, Some(group)).unwrap();
    let found = fs::symlink_metadata(path).unwrap();
    if found.is_symlink() {
        return;
    }
    let more = if found.is_dir() { 0o2770 } else { 0o660 };
    fs::set_permissions(path, Permissions::from_mode(found.mode() & 0o7777 | more)).unwrap();
    if found.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), group));
    }
}

/// What is in a container's file system that is not its image's.
#[derive(Clone)]
pub(crate) struct Mount {
    pub(crate) from: PathBuf,
    pub(crate) at: PathBuf,
    pub(crate) read_only: bool,
}

/// What a container is made of.
#[derive(Clone, Default)]
pub(crate) struct Container {
    /// `runAsUser`, `runAsGroup`, `fsGroup`.
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) fs_group: u32,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) environment: Vec<(String, String)>,
    /// Of the host; as in an image, it is in `/usr/local/bin`.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// A root of its own: the host's libraries, the mounts, and nothing that can be written to. `$1` is where.
const ROOT: &str = "
    root=$1; shift
    mount -t tmpfs -o mode=0755 container $root
    mkdir -p $root/etc/ssl $root/proc $root/dev $root/sys $root/usr/local/bin
    for folder in bin sbin lib lib64 share; do
        mkdir $root/usr/$folder; mount --bind /usr/$folder $root/usr/$folder; done
    for link in bin sbin lib lib64; do ln -s usr/$link $root/$link; done
    for folder in proc dev sys; do mount --rbind /$folder $root/$folder; done
    mount --bind /etc/ssl $root/etc/ssl
    cp /etc/passwd /etc/group /etc/hosts /etc/resolv.conf /etc/nsswitch.conf /etc/ld.so.cache $root/etc
    file() { mkdir -p \"$(dirname \"$2\")\"; [ -d \"$1\" ] && mkdir -p \"$2\" || touch \"$2\"; mount --bind \"$1\" \"$2\"; }
";

impl Container {
    /// Starts it; what it writes goes behind what `log` has.
    pub(crate) fn start(self, log: &Path) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut script = format!("set -eu{ROOT}");
        let at = Path::new("/usr/local/bin").join(self.program.file_name().unwrap());
        let program = Mount { from: self.program.clone(), at: at.clone(), read_only: true };
        for Mount { from, at, read_only } in self.mounts.iter().chain([&program]) {
            let (from, at) = (from.display(), at.display());
            writeln!(script, "file '{from}' \"$root{at}\"").unwrap();
            if *read_only {
                writeln!(script, "mount -o remount,bind,ro \"$root{at}\"").unwrap();
            }
        }
        script.push_str("mount -o remount,ro $root\nexec chroot $root \"$@\"");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(&root);
        command.args(self.identity()).arg(at).args(&self.arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin").envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Running { process: Process::spawn(&mut command), container: self, folder }
    }

    /// As whom all of its processes run: without any right that others have not.
    fn identity(&self) -> Vec<String> {
        let Self { user, group, fs_group, .. } = self;
        let fixed = ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"].map(str::to_owned);
        let own = [format!("--reuid={user}"), format!("--regid={group}"), format!("--groups={fs_group}")];
        ["setpriv".to_owned()].into_iter().chain(own).chain(fixed).collect()
    }
}

/// A running container. Dropped, it is killed.
pub(crate) struct Running {
    pub(crate) process: Process,
    container: Container,
    folder: TempDir,
}

/// How a container ended.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) status: ExitStatus,
    /// Whether the grace period was not enough.
    pub(crate) killed: bool,
    /// From the hook on.
    pub(crate) took: Duration,
}

impl Running {
    /// Runs a command inside, as a probe or `kubectl exec` does: whether it went well, and all that it said, together.
    pub(crate) async fn exec(&self, command: &[String], timeout: Duration) -> Result<String, String> {
        let said = self.folder.path().join("said");
        let output = File::create(&said).unwrap();
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.process.pid().to_string(), "--mount", "--root", "--wd=/"]);
        inside.args(self.container.identity()).args(command);
        inside.env_clear().env("PATH", "/usr/sbin:/usr/bin").envs(self.container.environment.iter().cloned());
        inside.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let mut process = Process::spawn(&mut inside);
        let deadline = Instant::now() + timeout;
        if !ends_by(&mut process, deadline).await {
            return Err(format!("command timed out: {:?} timed out after {}s", command.join(" "), timeout.as_secs()));
        }
        let text = String::from_utf8_lossy(&fs::read(&said).unwrap()).into_owned();
        if process.ended().await.success() { Ok(text) } else { Err(text) }
    }

    /// Deletes its pod: the hook's time is part of the grace period, and two seconds are left for the process in any case.
    pub(crate) async fn stop(mut self, pre_stop: Duration, grace: Duration) -> Stopped {
        let begun = Instant::now();
        sleep(pre_stop.min(grace)).await;
        self.process.signal(Signal::TERM);
        let left = grace.saturating_sub(begun.elapsed()).max(Duration::from_secs(2));
        let killed = !ends_by(&mut self.process, Instant::now() + left).await;
        if killed {
            self.process.signal(Signal::KILL);
        }
        Stopped { status: self.process.ended().await, killed, took: begun.elapsed() }
    }
}

async fn ends_by(process: &mut Process, deadline: Instant) -> bool {
    while process.is_running() {
        if Instant::now() > deadline {
            return false;
        }
        // Between two looks.
        sleep(Duration::from_millis(10)).await;
    }
    true
}

/// What a probe does.
#[derive(Clone)]
pub(crate) enum Handler {
    /// `httpGet`, as a URL.
    Http(String),
    /// `exec`.
    Exec(Vec<String>),
}

/// A container's probe.
#[derive(Clone)]
pub(crate) struct Probe {
    /// `Readiness`, `Liveness` or `Startup`.
    pub(crate) kind: &'static str,
    pub(crate) handler: Handler,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    pub(crate) success_threshold: u32,
    pub(crate) failure_threshold: u32,
}

impl Probe {
    /// One attempt; why it failed, as kubelet's event has it. Of an answer over HTTP that is its status alone.
    pub(crate) async fn attempt(&self, running: &Running) -> Result<(), String> {
        let said = match &self.handler {
            Handler::Exec(command) => running.exec(command, self.timeout).await.map(drop),
            Handler::Http(url) => {
                let answer = https_client(None).unwrap().get(url).timeout(self.timeout).send().await;
                match answer.map(|answer| answer.status()) {
                    Ok(status) if status.is_success() || status.is_redirection() => Ok(()),
                    Ok(status) => Err(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
                    Err(error) => Err(format!("Get {url:?}: {error}")),
                }
            }
        };
        said.map_err(|said| format!("{} probe failed: {}", self.kind, said.trim_end()))
    }
}

/// A probe that is made again and again.
pub(crate) struct Prober<'a> {
    running: &'a Running,
    probe: Probe,
    /// What the pod's status says.
    pub(crate) good: bool,
    /// How often the other was seen in a row.
    other: u32,
    /// What `kubectl describe pod` shows, each with how often it came.
    pub(crate) events: Vec<(String, u32)>,
}

impl<'a> Prober<'a> {
    pub(crate) fn new(running: &'a Running, probe: Probe) -> Self {
        // What is not known yet.
        let good = probe.kind == "Liveness";
        Self { running, probe, good, other: 0, events: Vec::new() }
    }

    /// Probes until the pod's status is this; how long it took.
    pub(crate) async fn until(&mut self, good: bool) -> Duration {
        let begun = Instant::now();
        let what = format!("the pod's {} becomes {good}", self.probe.kind);
        within(super::PATIENCE, &what, async {
            while self.good != good {
                // Its reason is in the events.
                let _ = self.attempt().await;
                if self.good != good {
                    sleep(self.probe.period).await;
                }
            }
        })
        .await;
        begun.elapsed()
    }

    /// One attempt, which counts; why it failed.
    pub(crate) async fn attempt(&mut self) -> Result<(), String> {
        let attempt = self.probe.attempt(self.running).await;
        let (seen, threshold) = match &attempt {
            Ok(()) => (true, self.probe.success_threshold),
            Err(_) => (false, self.probe.failure_threshold),
        };
        if let Err(event) = &attempt {
            match self.events.iter_mut().find(|(known, _)| known == event) {
                Some((_, times)) => *times += 1,
                None => self.events.push((event.clone(), 1)),
            }
        }
        self.other = if seen == self.good { 0 } else { self.other + 1 };
        if self.other >= threshold {
            self.good = seen;
            self.other = 0;
        }
        attempt
    }
}
