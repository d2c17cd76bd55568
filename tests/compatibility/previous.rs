//! The three programs of the last version before this one, built from the repository's own history.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

/// The last version before this one: what runs at others' is this, or newer.
const COMMIT: &str = "64abbbb1566009e788fd252db5f329d40835796e";

/// What is built of it. Its tests are named in its `Cargo.toml`, and are left empty.
const SOURCES: &[&str] = &["Cargo.toml", "Cargo.lock", "build.rs", "proto", "src"];
const TESTS: &[&str] = &["tests/it.rs", "tests/chaos/main.rs", "tests/abuse/main.rs"];

/// What has been compiled already, of others' crates: the same for both versions.
const COMPILED: &[&str] = &["deps", "build", ".fingerprint"];

/// The programs of one version.
#[derive(Clone, Copy)]
pub(super) struct Programs {
    pub(super) relay: &'static str,
    pub(super) agent: &'static str,
    pub(super) portal: &'static str,
}

impl Programs {
    /// Of this version.
    pub(super) fn new() -> Self {
        Self {
            relay: env!("CARGO_BIN_EXE_writeback-relay"),
            agent: env!("CARGO_BIN_EXE_writeback-agent"),
            portal: env!("CARGO_BIN_EXE_writeback-portal"),
        }
    }

    /// Of the one before. The first who asks builds them, which takes a minute or two.
    pub(super) async fn previous() -> Self {
        static BUILT: LazyLock<Programs> = LazyLock::new(build);
        tokio::task::spawn_blocking(|| *BUILT).await.unwrap()
    }
}

/// Where this version was built to, for example `target/debug`.
fn built_here() -> &'static Path {
    Path::new(Programs::new().relay).parent().unwrap()
}

fn build() -> Programs {
    let profile = built_here().file_name().unwrap();
    let folder = built_here().with_file_name("previous").join(COMMIT);
    fs::create_dir_all(&folder).unwrap();
    // Another run of these tests may be building it, too.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (sources, target) = (folder.join("sources"), folder.join("target"));
    if !sources.exists() {
        extract(&sources);
    }
    if !target.join(profile).exists() {
        reuse(&target.join(profile));
    }
    let profile_name = if profile == "debug" { "dev".into() } else { profile.to_owned() };
    let mut cargo = Command::new("nice");
    cargo.arg(option_env!("CARGO").unwrap_or("cargo")).args(["build", "--locked", "--profile"]).arg(profile_name);
    // With a test, the crates have the features that tests ask for: so they are the ones that are compiled.
    cargo.args(["--bin", "writeback-relay", "--bin", "writeback-agent", "--bin", "writeback-portal", "--test", "it"]);
    cargo.arg("--manifest-path").arg(sources.join("Cargo.toml")).arg("--target-dir").arg(&target);
    done("the last version before this one can't be built", &mut cargo);
    let program = |name: &str| {
        let path = target.join(profile).join(name).into_os_string().into_string().unwrap();
        // There is one of each, for as long as the tests run.
        &*Box::leak(path.into_boxed_str())
    };
    Programs {
        relay: program("writeback-relay"),
        agent: program("writeback-agent"),
        portal: program("writeback-portal"),
    }
}

/// Takes the sources out of the repository; all of them, or none.
fn extract(sources: &Path) {
    let root = env!("CARGO_MANIFEST_DIR");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-C", root]).args(arguments);
        git
    };
    let commit = format!("{COMMIT}^{{commit}}");
    let known = git(&["cat-file", "-e", &commit]).output().is_ok_and(|output| output.status.success());
    assert!(
        known,
        "these tests run the last version before this one, commit {COMMIT}, which is not in {root}: it needs a git clone \
         with its history; run: git fetch --unshallow"
    );
    let folder = sources.with_extension("half");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let archive = folder.join("sources.tar");
    let into = format!("--output={}", archive.display());
    done("git archive", git(&["archive", &into, COMMIT]).args(SOURCES));
    done("tar", Command::new("tar").arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(&folder));
    fs::remove_file(archive).unwrap();
    for test in TESTS {
        let file = folder.join(test);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    fs::rename(folder, sources).unwrap();
}

/// Links what is compiled of others' crates into the folder, where it costs neither time nor room.
fn reuse(target: &Path) {
    let half = target.with_extension("half");
    let _ = fs::remove_dir_all(&half);
    fs::create_dir_all(&half).unwrap();
    for name in COMPILED {
        link(&built_here().join(name), &half.join(name));
    }
    fs::rename(half, target).unwrap();
}

fn link(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let entries = fs::read_dir(from).into_iter().flatten().flatten();
    for (path, name) in entries.map(|entry| (entry.path(), entry.file_name())) {
        // This package's own are compiled anew, and some of them are large.
        let own = name.to_string_lossy().replace('-', "_");
        let own = ["writeback_", "libwriteback_", "it_", "chaos_", "abuse_"].iter().any(|start| own.starts_with(start));
        if own {
            continue;
        }
        let to = to.join(name);
        if path.is_dir() {
            link(&path, &to);
        } else {
            // What another file system holds, or was just removed, is compiled anew.
            let _ = fs::hard_link(&path, &to);
        }
    }
}

fn done(what: &str, command: &mut Command) {
    let Output { status, stderr, .. } = command.output().unwrap_or_else(|error| panic!("{what}: {command:?}: {error}"));
    assert!(status.success(), "{what}: {command:?}: {status}: {}", String::from_utf8_lossy(&stderr));
}
