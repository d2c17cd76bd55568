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
    &["demo", "bench"],
    &["bin", "lib"],
];

/// The same inside the relay.
const RELAY_FLOORS: &[&[&str]] = &[
    &["ids", "cache", "writes"],
    &["faults"],
    &["registry", "ledger", "bus"],
    &["recent", "continuity", "intake", "mailbox"],
    &["embedded", "redis", "keys", "sessions"],
    &["config"],
    &["tls", "store", "limits"],
    &["session"],
    &["dispatch"],
    &["http"],
    &["admin"],
    &["lifecycle", "service"],
];

/// Where each outside crate may be named.
const FENCES: &[(&str, &[&str])] = &[
    ("axum", &["src/relay/http/", "src/relay/admin/"]),
    ("hyper", HTTP),
    ("hyper_util", HTTP),
    ("tokio_tungstenite", &["src/relay/http/", "src/agent/link/connection.rs", "src/bench/"]),
    ("hdrhistogram", &["src/bench/"]),
    ("plotters", &["src/bench/everything/plots/"]),
    ("ldap3", &["src/agent/directory/active_directory/"]),
    // The bench starts a server of that name, and says which one; a store of that name is said to take no writes.
    (
        "redis",
        &[
            "src/relay/redis/",
            "src/relay/config.rs",
            "src/relay/store.rs",
            "src/relay/mod.rs",
            "src/relay/writes.rs",
            "src/bench/",
        ],
    ),
    ("redb", &["src/storage/", "src/relay/embedded/", "src/agent/journal"]),
    ("reqwest", &["src/net/mod.rs", "src/portal/config.rs", "src/relay/admin/client.rs"]),
    ("jsonwebtoken", &["src/protocol/jose/"]),
    ("curve25519_dalek", &["src/protocol/jose/jwk.rs"]),
    ("sd_notify", &["src/host/"]),
    ("prost", &["src/protocol/frame.rs"]),
    ("rcgen", &["src/relay/tls.rs"]),
    ("prometheus", &["src/telemetry/"]),
    ("opentelemetry", &["src/telemetry/"]),
    ("governor", &["src/relay/limits.rs"]),
    ("ppp", &["src/relay/http/client_address.rs"]),
    ("x509_parser", &["src/relay/tls.rs", "src/agent/", "src/net/certificate.rs", "src/net/certificates"]),
    ("opentelemetry_http", &["src/telemetry/"]),
    ("opentelemetry_otlp", &["src/telemetry/"]),
    ("opentelemetry_prometheus", &["src/telemetry/"]),
    ("opentelemetry_sdk", &["src/telemetry/"]),
    ("rustix", &["src/host/"]),
    ("hickory_resolver", &["src/net/names.rs"]),
    ("clap", &["src/bin/"]),
    ("mimalloc", &["src/bin/"]),
    ("rpassword", &["src/bin/", "src/portal/", "src/agent/setup/terminal.rs"]),
    ("icu_properties", &["src/protocol/untrusted.rs"]),
];

/// Where HTTP is spoken by hand.
const HTTP: &[&str] =
    &["src/relay/http/", "src/telemetry/agent_metrics.rs", "src/bench/", "src/net/", "src/agent/link/connection.rs"];

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
    let line = |line: &str| {
        // Not the slashes of a URL.
        let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
        line[..comment.map_or(line.len(), |(at, _)| at)].to_owned()
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `name` stands in `code` as a whole word: what is before it, and what is behind it.
fn words<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    code.match_indices(name)
        .map(|(at, _)| (&code[..at], &code[at + name.len()..]))
        .filter(|(before, behind)| !before.ends_with(is_name) && !behind.starts_with(is_name))
}

/// The rooms that lead to a file: of `src/relay/http/mod.rs`, relay and http.
fn rooms(path: &str) -> Vec<&str> {
    let rooms: Vec<_> = path.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap().split('/').collect();
    match rooms.as_slice() {
        [within @ .., "mod"] => within.to_vec(),
        _ => rooms,
    }
}

/// The paths that `text` begins with: `a::{b, c::D}` is `a::b` and `a::c::D`.
fn paths(text: &str) -> Vec<String> {
    let (head, rest) = text.split_at(text.find(|c| !is_name(c) && c != ':').unwrap_or(text.len()));
    let Some(list) = rest.strip_prefix('{').filter(|_| head.is_empty() || head.ends_with("::")) else {
        // Nothing stands behind a list's last comma.
        return if head.is_empty() { Vec::new() } else { vec![head.to_owned()] };
    };
    let (mut found, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            ',' | '}' if depth == 0 => {
                found.extend(paths(list[from..at].trim()).into_iter().map(|path| format!("{head}{path}")));
                from = at + 1;
                if c == '}' {
                    break;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// Every path of this crate that a file names, from the crate's root. Inside `mod x { }` a `super` too many is counted.
fn used(path: &str, code: &str) -> Vec<Vec<String>> {
    let mut found: Vec<String> = words(code, "crate").flat_map(|(_, behind)| path_behind("", behind)).collect();
    let mut within = rooms(path);
    let mut supers = "super".to_owned();
    while within.pop().is_some() {
        let base: String = within.iter().map(|room| format!("{room}::")).collect();
        let chains =
            words(code, &supers).filter(|(before, behind)| !before.ends_with("::") && !behind.starts_with("::super"));
        found.extend(chains.flat_map(|(_, behind)| path_behind(&base, behind)));
        supers.push_str("::super");
    }
    found.iter().map(|path| path.split("::").map(ToOwned::to_owned).collect()).collect()
}

fn path_behind(base: &str, behind: &str) -> Vec<String> {
    let Some(rest) = behind.strip_prefix("::") else { return Vec::new() };
    paths(rest).into_iter().map(|path| format!("{base}{path}")).collect()
}

fn floor(floors: &[&[&str]], room: &str) -> usize {
    floors.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("{room} stands on no floor"))
}

#[test]
fn floors_look_down_only_and_apartments_do_not_know_each_other() {
    for (path, text) in sources() {
        let here = rooms(&path)[0];
        for used in used(&path, &code(&text)) {
            if !FLOORS.iter().any(|rooms| rooms.contains(&&*used[0])) {
                continue; // a macro, or an item of the crate's own root
            }
            let (mine, its) = (floor(FLOORS, here), floor(FLOORS, &used[0]));
            let allowed = its < mine || used[0] == here || (its == mine && mine == 2);
            assert!(allowed, "{path} uses {}, which is not below it", used.join("::"));
        }
    }
}

#[test]
fn inside_the_relay_floors_look_down_only_too() {
    for (path, text) in sources() {
        let ["relay", here, ..] = rooms(&path)[..] else { continue };
        for used in used(&path, &code(&text)) {
            let [apartment, room, ..] = &used[..] else { continue };
            if apartment != "relay" || !RELAY_FLOORS.iter().any(|rooms| rooms.contains(&&**room)) {
                continue;
            }
            let (mine, its) = (floor(RELAY_FLOORS, here), floor(RELAY_FLOORS, room));
            assert!(its <= mine, "{path} uses {}, which is not below it", used.join("::"));
        }
    }
}

/// Where JSON is read by `serde_json` itself: what this program, or another node of this relay, has written for itself.
/// Everything else goes through `protocol::json`, so that all readers are of one mind.
const OWN_JSON: &[&str] = &[
    "src/protocol/json/",
    "src/relay/redis/",
    "src/relay/embedded/mod.rs",
    "src/agent/journal/mod.rs",
    "src/agent/format.rs",
    "src/agent/events/",
    "src/agent/directory/demo/mod.rs",
    "src/demo/world.rs",
    "src/bench/",
];

#[test]
fn json_of_the_protocol_is_read_in_one_place() {
    for (path, text) in sources() {
        // What tests look at is theirs.
        let code = code(text.split("#[cfg(test)]").next().unwrap_or_default());
        let tests = path.ends_with("/tests.rs") || path.ends_with("testing.rs") || path.contains("/tests/");
        let own = tests || OWN_JSON.iter().any(|place| path.starts_with(place));
        for reader in ["from_slice", "from_str", "from_reader", "from_value"] {
            let reads = code.contains(&format!("serde_json::{reader}"));
            assert!(own || !reads, "{path} reads JSON with serde_json::{reader}: use crate::protocol::json");
        }
        let (axums, ours) = (code.contains("axum::Json"), path == "src/relay/http/json.rs");
        assert!(
            ours || !axums,
            "{path} names axum::Json, which reads what it should refuse: use relay::http::json::Json"
        );
    }
}

#[test]
fn each_outside_crate_stays_in_its_place() {
    for (path, text) in sources() {
        let code = code(&text);
        for (krate, places) in FENCES {
            // Not a file's ending in a text.
            let named = words(&code, krate).any(|(before, behind)| !before.ends_with('.') && !behind.starts_with('"'));
            let allowed = places.iter().any(|place| path.starts_with(place));
            assert!(!named || allowed, "{path} names {krate}, which stays in {places:?}");
        }
    }
}

/// Who writes to standard output and standard error: with everything spelt out that a terminal would obey.
const WRITERS: &[&str] = &["src/host/mod.rs", "src/telemetry/log.rs"];

#[test]
fn only_the_host_and_the_log_write_to_the_standard_streams() {
    for (path, text) in sources() {
        let code = code(&text);
        for way in ["println", "print", "eprintln", "eprint", "dbg"] {
            let is_called = words(&code, way).any(|(_, behind)| behind.starts_with('!'));
            assert!(
                !is_called,
                "{path} calls {way}!: use host::print or host::print_error, which spell out what others wrote"
            );
        }
        for stream in ["stdout", "stderr"] {
            let is_opened =
                words(&code, stream).any(|(before, behind)| behind.starts_with('(') && !before.ends_with('.'));
            let is_whole = path.starts_with("src/bench/");
            assert!(!is_opened || is_whole || WRITERS.contains(&&*path), "{path} opens {stream}: use host::print");
        }
    }
}

#[test]
fn every_program_has_its_panics_told_by_the_host() {
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("src/bin/") && path.ends_with("/main.rs"))
    {
        assert!(code(text).contains("tell_panics()"), "{path} lets a panic's message out as it is: host::tell_panics");
    }
}

/// Who takes untrusted text as data: to compare it, to put it on the wire, or because it is this program's own.
const READERS: &[(&str, &str)] = &[
    ("src/protocol/untrusted.rs", "itself"),
    ("src/protocol/api.rs", "frames carry the same on"),
    ("src/protocol/scope.rs", "the same, and a UPN's suffix is compared"),
    ("src/agent/preflight/table.rs", "the findings of this very process"),
    ("src/relay/redis/presence.rs", "a node's name goes into Redis"),
    ("src/relay/http/commands.rs", "a reason becomes a code"),
    ("src/relay/http/enrollments.rs", "a name is shortened"),
    ("src/portal/report.rs", "a reason is looked up"),
    ("src/portal/request.rs", "a problem's code is looked up"),
    ("src/bin/writeback-relay/status.rs", "the node's own words, in which an agent's are quoted"),
];

#[test]
fn untrusted_text_is_taken_as_data_where_it_is_known_why() {
    for (path, text) in sources() {
        // Tests compare it.
        let program = code(&text).split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        let takes = ["as_data", "into_data"].iter().any(|way| words(&program, way).next().is_some());
        let known = READERS.iter().any(|(reader, _)| *reader == path) || path.contains("/tests");
        assert!(
            !takes || known,
            "{path} takes untrusted text as data: show it with quoted() or cell(), or say why it may"
        );
    }
    for (reader, _) in READERS {
        assert!(sources()[*reader].contains("_data"), "{reader} takes none any more");
    }
}

/// What the checks above stand on: they see every way to name a thing.
#[test]
fn every_way_to_name_a_thing_is_seen() {
    let seen = |path: &str, code: &str| used(path, code).iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(seen("src/relay/http/mod.rs", "use super::admin;"), ["relay::admin"]);
    assert_eq!(seen("src/relay/http/agents.rs", "use super::super::admin::Ops;"), ["relay::admin::Ops"]);
    assert_eq!(seen("src/relay/http/agents.rs", "use super::admin;"), ["relay::http::admin"]);
    assert_eq!(seen("src/relay/bus.rs", "fn f(e: super::super::agent::E) {}"), ["agent::E"]);
    let list = "use crate::relay::{\n    bus::{Bus, Place},\n    http,\n};";
    assert_eq!(seen("src/relay/bus.rs", list), ["relay::bus::Bus", "relay::bus::Place", "relay::http"]);
    for named in ["<redb::Error", "(redb::", "&redb::", " redb::", "use crate::storage::redb::Error;", "pub use redb;"]
    {
        assert_eq!(words(&code(named), "redb").count(), 1, "{named}");
    }
    for not_named in ["// redb::Error", "redb_testing::x", "my_redb::x"] {
        assert_eq!(words(&code(not_named), "redb").count(), 0, "{not_named}");
    }
    assert_eq!(words(&code("let url = \"https://r\"; redb::open()"), "redb").count(), 1);
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
