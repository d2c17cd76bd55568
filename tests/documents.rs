//! What is written for people leads somewhere: each link, and each command and option of the programs is in some document.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::cli::Cli;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const PROGRAMS: [(&str, &str); 3] = [
    ("writeback-relay", env!("CARGO_BIN_EXE_writeback-relay")),
    ("writeback-agent", env!("CARGO_BIN_EXE_writeback-agent")),
    ("writeback-portal", env!("CARGO_BIN_EXE_writeback-portal")),
];

/// Every document for people, and what it says.
fn documents() -> Vec<(PathBuf, String)> {
    let of = |folder: &str| {
        let files = fs::read_dir(Path::new(ROOT).join(folder)).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "md")).collect::<Vec<_>>()
    };
    let paths = ["", "docs", "helm"].into_iter().flat_map(of);
    paths.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The names by which a document's headings are linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(slug).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let documents = documents();
    assert!(documents.len() > 12, "they were not found");
    for (path, text) in &documents {
        for link in text.split("](").skip(1).filter_map(|behind| behind.split(')').next()) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(target.exists(), "{}: {link}: there is no such file", path.display());
            let headings = || anchors(&fs::read_to_string(&target).unwrap());
            assert!(anchor.is_empty() || headings().contains(anchor), "{}: {link}: no such heading", path.display());
        }
    }
}

/// What stands below a heading of a help: the first word of each line.
fn below(help: &str, heading: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).filter(|name| name != "help").collect()
}

/// The long options of a command.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let long = lines.filter_map(|line| line.split_whitespace().take(2).find(|word| word.starts_with("--")));
    let names = long.map(|word| word.trim_end_matches(',').to_owned());
    names.filter(|name| name != "--help" && name != "--version").collect()
}

#[tokio::test]
async fn every_command_and_option_of_the_programs_is_in_some_document() {
    let mut text: String = documents().into_iter().map(|(_, text)| text).collect();
    for settings in ["deploy/agent.toml", "deploy/relay.toml"] {
        text += &fs::read_to_string(Path::new(ROOT).join(settings)).unwrap();
    }
    let (mut missing, mut seen) = (Vec::new(), 0);
    for (name, program) in PROGRAMS {
        let cli = Cli::new(program, &[]);
        let mut open = vec![Vec::<String>::new()];
        while let Some(command) = open.pop() {
            let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
            let help = cli.run(&words).await.out;
            let commands = below(&help, "Commands:");
            let call = [&[name.to_owned()][..], &command].concat().join(" ");
            seen += 1;
            if commands.is_empty() && !text.contains(&call) {
                missing.push(call.clone());
            }
            let unknown = options(&help)
                .into_iter()
                .filter(|option| !text.contains(&format!("`{option}")) && !text.contains(&format!(" {option}")));
            missing.extend(unknown.map(|option| format!("{call} {option}")));
            open.extend(commands.into_iter().map(|next| [&command[..], &[next]].concat()));
        }
    }
    assert!(seen > 40, "the commands were not found");
    assert!(missing.is_empty(), "in no document: {missing:#?}");
}
