//! The image, built by buildah from deploy/Dockerfile, and the chart's pod, run from it by podman as Kubernetes would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::https_client;
use serde_json::Value;
use tempfile::TempDir;

use super::chart::one;
use super::pod::{Pod, secrets};
use super::{installed, linked_statically, objects, project, template, text};
use crate::support::kubelet::Handler;
use crate::support::redis::Redis;
use crate::support::{deadline, eventually, own_address};

/// Without these neither starts where files are limited or cgroups are of two kinds.
const ULIMITS: [&str; 2] = ["--ulimit=nofile=20000:20000", "--ulimit=nproc=20000:20000"];

/// The relay, linked as the image has it.
fn program() -> &'static Path {
    static ONCE: OnceLock<PathBuf> = OnceLock::new();
    ONCE.get_or_init(|| linked_statically("writeback-relay"))
}

/// Images and containers in a folder of their own.
struct Containers(TempDir);

impl Containers {
    /// With the image, as `localhost/relay`.
    fn with_the_image() -> Self {
        installed("helm"); // and buildah and podman
        let containers = Self(tempfile::Builder::new().prefix("writeback-containers-").tempdir().unwrap());
        let context = containers.0.path().join("context");
        std::fs::create_dir(&context).unwrap();
        let strip =
            Command::new("strip").arg("-o").arg(context.join("writeback-relay")).arg(program()).status().unwrap();
        assert!(strip.success());
        let file = project("deploy/Dockerfile");
        containers.done(
            containers
                .tool("buildah")
                .args([
                    "bud",
                    "--isolation",
                    "chroot",
                    "--layers=false",
                    "--target",
                    "prebuilt",
                    "--tag",
                    "relay",
                    "--file",
                ])
                .arg(file)
                .arg(context),
        );
        containers
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = if rustix::process::geteuid().is_root() { Command::new(program) } else { sudo(program) };
        let folder = |name: &str| self.0.path().join(name);
        command
            .arg("--root")
            .arg(folder("store"))
            .arg("--runroot")
            .arg(folder("run"))
            .args(["--storage-driver", "overlay"]);
        command
    }

    fn podman(&self) -> Command {
        let mut command = self.tool("podman");
        command.args(["--cgroup-manager", "cgroupfs", "--runtime", "/usr/sbin/runc"]);
        command
    }

    fn said(&self, command: &mut Command) -> Output {
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: run tests/setup"))
    }

    fn done(&self, command: &mut Command) -> String {
        let output = self.said(command);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn inspect(&self, what: &str, format: &str) -> String {
        self.done(self.podman().args(["inspect", "--format", format, what]))
    }

    /// All that the container's process has logged.
    fn log(&self) -> String {
        let output = self.said(self.podman().args(["logs", "relay"]));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}

fn sudo(program: &str) -> Command {
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

impl Drop for Containers {
    fn drop(&mut self) {
        // Whatever runs, and what is mounted in the folder.
        let _ = self.podman().args(["rm", "--all", "--force", "--time", "0"]).output();
        let _ = self.tool("buildah").args(["rm", "--all"]).output();
    }
}

/// The chart for one node at `address` on this Redis, and the files that its secrets hold.
fn chart(address: &str, redis: &Redis) -> Vec<Value> {
    let yaml = template(
        &project("tests/deploy/values/redis.yaml"),
        &[
            &format!("redis.urls={{redis://redis.example.com:{}}}", redis.addr(6379).port()),
            &format!("listenAddress={address},admin.existingSecret=relay-admin,logFilter=debug"),
        ],
    );
    objects(&yaml.unwrap(), &["--check"]).unwrap()
}

#[tokio::test]
async fn the_charts_pod_runs_read_only_as_nobody_answers_its_probes_and_drains_within_its_grace() {
    let (redis, address) = (Redis::single().await, own_address().to_string());
    let objects = chart(&address, &redis);
    let containers = Containers::with_the_image();
    let folder = tempfile::tempdir().unwrap();
    let pod = Pod::new(one(&objects, "Deployment"), &objects, &secrets(), folder.path());

    let host = format!("redis.example.com:{}", redis.addr(6379).ip());
    let run = ["run", "--detach", "--name", "relay", "--network", "host", "--add-host", &host];
    containers.done(
        containers.podman().args(run).args(ULIMITS).args(&pod.options).arg("localhost/relay").args(&pod.arguments),
    );

    let http = https_client(None).unwrap();
    for kind in ["Startup", "Liveness", "Readiness"] {
        let probe = pod.probe(kind, &address);
        eventually(&format!("{kind}\n{}", containers.log()), || async {
            match &probe.handler {
                Handler::Http(url) => http.get(url).send().await.is_ok_and(|answer| answer.status().is_success()),
                Handler::Exec(command) => {
                    containers.said(containers.podman().args(["exec", "relay"]).args(command)).status.success()
                }
            }
        })
        .await;
    }
    // The check that `helm test` makes, with the arguments of its pod.
    let test = one(&objects, "Pod");
    let ready = ["exec", "relay", "/usr/local/bin/writeback-relay", "ready", "--ops-url"];
    assert_eq!(test["spec"]["containers"][0]["args"][0], ready[3]);
    let ops = format!("http://{address}:9443");
    assert!(containers.done(containers.podman().args(ready).arg(&ops)).starts_with("ok"));
    // What NOTES.txt has the operator do; the token is the secret's.
    for arguments in [&["tenant", "add", "contoso"][..], &["tenant", "list"]] {
        let exec = ["exec", "relay", "/usr/local/bin/writeback-relay"];
        containers.done(containers.podman().args(exec).args(arguments).args(["--ops-url", &ops]));
    }
    // Nor does the runbook need a shell, or a folder to write to.
    let registry = |verb: &str, file: &str| {
        let exec = ["exec", "--interactive", "relay", "/usr/local/bin/writeback-relay", "registry", verb, file];
        let mut command = containers.podman();
        command.args(exec).args(["--ops-url", &ops]);
        command
    };
    let exported = containers.done(&mut registry("export", "/dev/stdout"));
    assert!(exported.contains("contoso"), "{exported}");
    // Its folder is its own, wherever the operator's token is.
    assert!(!containers.log().contains("could not be kept"), "{}", containers.log());
    let saved = folder.path().join("registry.json");
    std::fs::write(&saved, exported).unwrap();
    containers.done(registry("import", "/dev/stdin").stdin(std::fs::File::open(saved).unwrap()));

    assert_eq!(containers.inspect("relay", "{{.HostConfig.ReadonlyRootfs}}"), "true");
    let pid = containers.inspect("relay", "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(line("Uid:"), "65532\t65532\t65532\t65532");
    assert_eq!((line("CapPrm:"), line("CapBnd:")), ("0".repeat(16), "0".repeat(16)));
    assert_eq!(line("NoNewPrivs:"), "1");
    let shell = containers.said(containers.podman().args(["exec", "relay", "/bin/sh", "-c", "true"]));
    assert!(!shell.status.success(), "there is a shell");

    let begun = Instant::now();
    let grace = pod.grace_period.to_string();
    deadline("a stop", async {
        let stop = containers.podman().args(["stop", "--time", &grace, "relay"]).output().unwrap();
        assert!(stop.status.success());
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(pod.grace_period), "it took {:?}", begun.elapsed());
    let log = containers.log();
    assert_eq!(containers.inspect("relay", "{{.State.ExitCode}}"), "0", "{log}");
    assert!(log.contains("the node is down"), "{log}");
}

#[test]
fn the_image_is_the_program_and_nothing_else() {
    let containers = Containers::with_the_image();
    assert_eq!(containers.inspect("localhost/relay", "{{.Config.User}}"), "65532:65532");
    containers.done(
        containers
            .podman()
            .args(["create", "--name", "relay", "--network", "none"])
            .args(ULIMITS)
            .arg("localhost/relay"),
    );
    let archive = containers.0.path().join("files.tar");
    containers.done(containers.podman().args(["export", "relay", "--output"]).arg(&archive));
    let output = Command::new("tar").arg("--list").arg("--file").arg(&archive).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let files: Vec<&str> = listed.lines().filter(|name| !name.ends_with('/')).collect();
    // Podman's own, for what it mounts there: names and no content.
    let runtime =
        |name: &&str| ["etc/hostname", "etc/hosts", "etc/resolv.conf", "run/.containerenv", "etc/mtab"].contains(name);
    let files: Vec<&str> = files.into_iter().filter(|name| !runtime(name)).collect();
    assert_eq!(files, ["usr/local/bin/writeback-relay"]);
    let output = containers.said(
        containers
            .podman()
            .args(["run", "--rm", "--network", "none", "--read-only"])
            .args(ULIMITS)
            .args(["localhost/relay", "--version"]),
    );
    let version = String::from_utf8(output.stdout).unwrap();
    assert_eq!(version.trim(), concat!("writeback-relay ", env!("CARGO_PKG_VERSION")));
    let chart = super::yaml("helm/Chart.yaml");
    assert_eq!(text(&chart["appVersion"]), env!("CARGO_PKG_VERSION"));
}
