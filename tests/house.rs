//! The house keeps its shape: floors look down only, each outside crate has its place, files stay small.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Each file or folder of `src`, from the bottom up; a file may use what stands on its own line or above it.
const FLOORS: &[&[&str]] = &[
    &["clock"],
    &["protocol"],
    &["storage", "net", "host", "telemetry"],
    &["relay", "agent", "portal"],
    &["demo"],
    &["bin", "lib"],
];

/// The same inside the relay.
const RELAY_FLOORS: &[&[&str]] = &[
    &["ids"],
    &["registry", "ledger", "bus"],
    &["embedded", "redis", "keys", "sessions"],
    &["config"],
    &["tls"],
    &["session"],
    &["dispatch"],
    &["http"],
    &["admin"],
    &["lifecycle"],
];

/// Where each outside crate may be named.
const FENCES: &[(&str, &[&str])] = &[
    ("axum", &["src/relay/http/", "src/relay/admin/"]),
    ("hyper", &["src/relay/http/"]),
    ("hyper_util", &["src/relay/http/"]),
    ("tokio_tungstenite", &["src/relay/http/", "src/agent/link/connection.rs"]),
    ("ldap3", &["src/agent/directory/active_directory/"]),
    ("redis", &["src/relay/redis/"]),
    ("redb", &["src/storage/", "src/relay/embedded/", "src/agent/journal"]),
    (
        "reqwest",
        &[
            "src/net.rs",
            "src/portal/",
            "src/agent/enroll.rs",
            "src/agent/link/connection.rs",
            "src/relay/admin/client.rs",
        ],
    ),
    ("jsonwebtoken", &["src/protocol/jose/"]),
    ("prost", &["src/protocol/frame.rs"]),
    ("rcgen", &["src/relay/tls.rs"]),
    ("prometheus", &["src/telemetry/"]),
    ("opentelemetry", &["src/telemetry/"]),
    ("rustix", &["src/host.rs"]),
    ("clap", &["src/bin/"]),
    ("rpassword", &["src/bin/", "src/portal/"]),
];

/// No file is longer, in lines.
const MAX_LINES: usize = 500;

fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::from(ROOT).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(ROOT).unwrap().display().to_string();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 40, "the sources were not found");
    found
}

/// The code of a file, without comments: what it names.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The part of `path` behind `below`, up to the next `/` or the file's ending.
fn room<'a>(path: &'a str, below: &str) -> Option<&'a str> {
    path.strip_prefix(below)?.split(['/', '.']).next()
}

fn floor(floors: &[&[&str]], room: &str) -> usize {
    floors.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("{room} stands on no floor"))
}

/// Every name that follows `prefix` in `code`, those in braces too.
fn named_after<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let list = rest.strip_prefix('{').and_then(|inner| inner.split('}').next());
        let parts = list.map_or_else(|| vec![rest], |inner| inner.split(',').collect());
        names.extend(parts.into_iter().filter_map(|part| {
            part.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
        }));
    }
    names
}

#[test]
fn floors_look_down_only_and_apartments_do_not_know_each_other() {
    for (path, text) in sources() {
        let here = room(&path, "src/").unwrap();
        for used in named_after(&code(&text), "crate::") {
            if !FLOORS.iter().any(|rooms| rooms.contains(&used)) {
                continue; // a macro, or an item of the crate's own root
            }
            let (mine, its) = (floor(FLOORS, here), floor(FLOORS, used));
            let allowed = its < mine || used == here || (its == mine && mine == 2);
            assert!(allowed, "{path} uses crate::{used}, which is not below it");
        }
    }
}

#[test]
fn inside_the_relay_floors_look_down_only_too() {
    for (path, text) in sources() {
        let Some(here) = room(&path, "src/relay/").filter(|room| *room != "mod") else { continue };
        let code = code(&text);
        let depth = path.matches('/').count() - 2;
        let mut used = named_after(&code, "crate::relay::");
        used.extend(named_after(&code, &format!("use {}", "super::".repeat(depth + 1))));
        for used in used {
            if !RELAY_FLOORS.iter().any(|rooms| rooms.contains(&used)) {
                continue;
            }
            let (mine, its) = (floor(RELAY_FLOORS, here), floor(RELAY_FLOORS, used));
            assert!(its <= mine, "{path} uses {used}, which is not below it");
        }
    }
}

#[test]
fn each_outside_crate_stays_in_its_place() {
    for (path, text) in sources() {
        let code = code(&text);
        for (krate, places) in FENCES {
            let named = code.contains(&format!("use {krate}::")) || code.contains(&format!(" {krate}::"));
            let allowed = places.iter().any(|place| path.starts_with(place));
            assert!(!named || allowed, "{path} names {krate}, which stays in {places:?}");
        }
    }
}

#[test]
fn files_stay_small() {
    for (path, text) in sources() {
        assert!(text.lines().count() <= MAX_LINES, "{path} is longer than {MAX_LINES} lines: split it");
    }
}

#[test]
fn the_api_document_is_what_the_handlers_say() {
    let checked_in = fs::read_to_string(Path::new(ROOT).join("docs/openapi.json")).unwrap();
    let generated = writeback_relay::relay::http::openapi().unwrap();
    assert!(checked_in == generated, "docs/openapi.json has drifted; run: cargo run -- openapi > docs/openapi.json");
}
