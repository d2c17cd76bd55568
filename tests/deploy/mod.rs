//! What the relay is shipped with: its image, its chart, its alerts and dashboards, checked with the tools that use them.

mod alerts;
mod api_server;
mod chart;
mod compose;
mod compose_secrets;
mod dashboards;
mod firing;
mod image;
mod newcomer;
mod on_call;
mod package;
mod panels;
mod pod;
mod prometheus;
mod promql;
mod releases;
mod runbook;
mod scaling;
mod service;
mod static_agent;
mod values;
mod volume;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::cli::{Cli, Said};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn project(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A program that `tests/deploy/setup` has installed.
fn installed(program: &str) -> PathBuf {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let status = Command::new(project("tests/deploy/setup")).status().expect("tests/deploy/setup can't be run");
        assert!(status.success(), "helm and the schemas are not installed: run tests/setup");
    });
    project("target/deploy").join(program)
}

/// One of the programs, linked statically, as for the image and for hosts with an old C library. The crates that it is made
/// of are the tests' own, so only this is new.
fn linked_statically(program: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_writeback-relay")).ancestors().nth(2).unwrap();
    let target = built.join("image");
    let output = Command::new(env!("CARGO"))
        .current_dir(project(""))
        // Cargo before 1.91 does not know it, and builds all of it there.
        .env("CARGO_BUILD_BUILD_DIR", built)
        .args(["rustc", "--locked", "--quiet", "--bin", program, "--target-dir"])
        .arg(&target)
        .args(["--", "-C", "target-feature=+crt-static"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug").join(program)
}

/// Runs a program of this machine to its end.
async fn run(program: &'static str, arguments: &[&str]) -> Said {
    Cli::new(program, &[]).run(arguments).await
}

/// YAML documents as JSON; with `--check`, Kubernetes objects that their schemas allow, or what is wrong with them.
fn objects(yaml: &str, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, yaml.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = Command::new(installed("venv/bin/python"))
        .arg(project("tests/deploy/objects.py"))
        .args(arguments)
        .stdin(Stdio::from(file))
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// A YAML file of the project, with one document.
fn yaml(path: &str) -> Value {
    let mut documents = objects(&read(path), &[]).unwrap_or_else(|wrong| panic!("{path}: {wrong}"));
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}

/// The chart as `helm template` renders it with a file of values and `--set`; an error is what helm says.
fn template(values: &Path, set: &[&str]) -> Result<String, String> {
    template_as("contoso", "relay", values, set)
}

/// The same of a release in a namespace.
fn template_as(release: &str, namespace: &str, values: &Path, set: &[&str]) -> Result<String, String> {
    rendered(&project("helm"), [release, namespace], values, set)
}

/// The same of another copy of the chart.
fn template_of(chart: &Path, values: &Path, set: &[&str]) -> Result<String, String> {
    rendered(chart, ["contoso", "relay"], values, set)
}

fn rendered(chart: &Path, [release, namespace]: [&str; 2], values: &Path, set: &[&str]) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let mut helm = Command::new(installed("helm"));
    helm.env("HOME", home.path()).args(["template", release, "--namespace", namespace]);
    helm.arg(chart).arg("--values").arg(values);
    for set in set {
        helm.args(["--set", set]);
    }
    let output = helm.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
