//! README.md, "Run it for real": its commands, one after another, as a reader runs them.

use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::support::https_client;
use tempfile::TempDir;

use crate::support::cli::{Call, Cli, Said};
use crate::support::own_address;
use crate::support::{deadline, eventually};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SECTION: &str = "\n## Run it for real\n";
const NEW_PASSWORD: &str = "Fresh-Start-2026!";

/// The commands of the section's blocks, with their comments.
fn commands(readme: &str) -> Vec<&str> {
    let section = readme.split_once(SECTION).expect("the README has the section").1;
    let section = section.split("\n## ").next().unwrap();
    section.lines().filter_map(|line| line.strip_prefix("    ")).collect()
}

/// A reader: one shell, a home, and what he has seen so far.
struct Reader {
    folder: TempDir,
    address: Ipv4Addr,
    shell: Cli,
    /// Every `export` so far.
    exports: String,
    /// What runs in other terminals.
    running: Vec<Call>,
    code: String,
    enrolled: String,
}

impl Reader {
    fn new() -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
        let home = folder.path().display();
        let exports = format!("cd {ROOT}; export HOME={home} WRITEBACK_OPS_URL=http://{address}:9443");
        let shell = Cli::new("bash", &["-euc"]);
        Self { folder, address, shell, exports, running: Vec::new(), code: String::new(), enrolled: String::new() }
    }

    /// The command with this reader's paths, and this run's programs and address.
    fn own(&self, command: &str) -> String {
        let programs = Path::new(env!("CARGO_BIN_EXE_writeback-relay")).parent().unwrap();
        command
            .replace("$PWD/target/release", &programs.display().to_string())
            .replace("https://localhost:8443", &format!("https://{}:8443", self.address))
    }

    async fn run(&self, command: &str, input: &str) -> Said {
        self.shell.run_with(&[&format!("{}\n{command}", self.exports)], input.as_bytes()).await
    }

    async fn done(&self, command: &str, input: &str) -> Said {
        let said = self.run(command, input).await;
        assert_eq!(said.status, 0, "{command}: {said:?}");
        said
    }

    fn start(&mut self, command: &str) {
        self.running.push(self.shell.start(&[&format!("{}\nexec {command}", self.exports)], b""));
    }

    /// The word behind `label` in what `setup` printed.
    fn enrolled(&self, label: &str) -> &str {
        let line = self.enrolled.lines().find_map(|line| line.trim().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label:?} in {}", self.enrolled)).trim().trim_end_matches('.')
    }

    /// He has no Active Directory, and does what is said for that.
    fn write_demo(&self) {
        let folder = self.folder.path().join("writeback/agent");
        std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
        let demo = readme.split_once("\n```toml\n").unwrap().1.split_once("```\n").unwrap().0;
        std::fs::write(folder.join("agent.toml"), demo).unwrap();
    }

    /// One line of the README.
    async fn follow(&mut self, line: &str) {
        let line = self.own(line);
        let command = line.split_once(" #").map_or(line.as_str(), |(command, _)| command).trim_end();
        let words: Vec<&str> = command.split(' ').take(2).collect();
        match words[..] {
            ["cargo", "build"] => {}
            ["export", _] => self.exports.push_str(&format!("\n{command}")),
            ["writeback-relay", "run"] => {
                let address = self.address;
                self.start(&format!(
                    "{command} --listen {address}:8443 --ops-listen {address}:9443 --public-url https://{address}:8443"
                ));
                let (http, url) = (https_client(None).unwrap(), format!("http://{address}:9443/readyz"));
                eventually("the relay is ready", || async {
                    http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
                })
                .await;
            }
            ["writeback-portal", "invite"] => self.code = self.done(command, "").await.out,
            ["writeback-agent", "setup"] => {
                self.write_demo();
                self.enrolled = self.done(&format!("{command} --code-file -"), &self.code).await.out;
            }
            ["writeback-agent", "run"] => self.start(command),
            // There is no terminal to compare fingerprints at.
            ["writeback-portal", "approve"] => {
                let command = command.replace("AGENT_ID", self.enrolled("Enrolled as agent "));
                self.done(&format!("{command} --fingerprint {}", self.enrolled("Fingerprint ")), "").await;
            }
            // The agent may need a moment more.
            ["writeback-portal", "availability"] => {
                eventually("a reset is possible", || async { self.run(command, "").await.status == 0 }).await;
            }
            ["writeback-portal", "reset"] => {
                let said = self.done(command, &format!("{NEW_PASSWORD}\n")).await;
                assert!(said.out.contains("support code"), "{said:?}");
            }
            _ => drop(self.done(command, "").await),
        }
    }
}

#[tokio::test]
async fn the_commands_of_the_readme_lead_to_a_reset() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let commands = commands(&readme);
    assert!(commands.last().unwrap().starts_with("writeback-portal reset "), "{commands:?}");
    let mut reader = Reader::new();
    for line in &commands {
        deadline(line, reader.follow(line)).await;
    }
}

/// Where everybody may write, somebody may have been first.
#[test]
fn no_trial_keeps_anything_under_a_fixed_name_in_a_folder_of_everybodys() {
    let mut folders = vec![Path::new(ROOT).join("docs"), Path::new(ROOT).join("deploy"), Path::new(ROOT).join("helm")];
    let mut files = vec![Path::new(ROOT).join("README.md")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        for shared in ["/tmp/", "/dev/shm/"] {
            assert!(!text.contains(shared), "{}: {shared}", file.display());
        }
    }
}
