use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use super::{cells, path, read, run};

const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->\n";

#[tokio::test]
async fn a_quick_run_fills_each_table_and_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("performance.md");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md"), &document).unwrap();
    let before = read(&document);
    let said = run("", &["all", "--quick", "--write", document.to_str().unwrap()]).await;
    assert!(said.status.success(), "{}", said.err);

    let mut rest = said.out.as_str();
    for title in [
        "Memory of one idle agent",
        "A storm: ",
        "8 commands in flight",
        "no commit waits for a disk",
        "1 commands in flight",
        "no commit waits for a disk",
        "20 agents, 8",
        "40 agents, 8",
        "Open loop",
        "Open loop",
        "Nodes on Redis: 10",
        "Nodes on Redis: 30",
        "Targets",
    ] {
        let at =
            rest.find(title).unwrap_or_else(|| panic!("{title:?} is not there, or not in its place: {}", said.out));
        rest = &rest[at + title.len()..];
    }
    let (reports, targets) = said.out.split_once("\nTargets\n").unwrap();
    let mut figures = 0;
    for row in reports.lines().filter_map(cells) {
        let [what, values @ ..] = &row[..] else { panic!("an empty row") };
        if what.is_empty() {
            continue; // the columns' names
        }
        for value in values {
            let without = what.contains("without one Ed25519") && *value == "–";
            assert!(without || value.parse::<f64>().is_ok_and(f64::is_finite), "{row:?}");
            figures += 1;
        }
    }
    assert!(figures > 100, "{figures} figures");
    let rows: Vec<_> = targets.lines().filter_map(cells).skip(1).collect();
    assert!(rows.len() > 15 && rows.iter().all(|row| row.len() == 4 && (row[3] == "not judged" || row[2] == "–")));

    let written = read(&document);
    let around = |text: &str| {
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (generated, behind) = rest.split_once(END).unwrap();
        (before.to_owned(), generated.to_owned(), behind.to_owned())
    };
    let ((head, _, tail), (new_head, generated, new_tail)) = (around(&before), around(&written));
    assert!(head == new_head && tail == new_tail, "what people wrote has changed");
    assert!(generated.contains("no figure means anything"), "{generated}");
    for row in said.out.lines().filter(|line| line.starts_with('|')) {
        assert!(generated.contains(row), "{row} is not in the document");
    }
    let plots: Vec<_> = generated.split("](").skip(1).map(|rest| rest.split_once(')').unwrap().0).collect();
    assert_eq!(plots.len(), 4, "{plots:?}");
    for plot in plots {
        let svg = read(&folder.path().join(plot));
        assert!(svg.starts_with("<svg") && svg.contains("#FFFFFF") && svg.contains("<polyline"), "{plot}: {svg}");
    }
}

#[tokio::test]
async fn a_peer_that_is_not_installed_is_said_so_and_the_rest_runs() {
    let folder = tempfile::tempdir().unwrap();
    let redis = std::env::split_paths(&path()).map(|place| place.join("redis-server")).find(|file| file.exists());
    symlink(redis.expect("redis-server"), folder.path().join("redis-server")).unwrap();
    let before = format!("PATH={}", folder.path().display());
    let said = run(&before, &["all", "--quick", "--json"]).await;
    assert!(said.status.success(), "{}", said.err);
    let all: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(all["machine"]["nats_server"], "nats-server is not installed");
    let reports = all["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 12);
    let compared = |report: &&Value| report["notes"].to_string().contains("nats: nats-server is not installed");
    assert_eq!(reports.iter().filter(compared).count(), 6, "{reports:?}");
    for report in reports {
        let columns = report["columns"].as_array().unwrap();
        assert!(!columns.is_empty() && !columns.iter().any(|column| column.as_str().unwrap().contains("nats")));
        for row in report["rows"].as_array().unwrap() {
            let values = row["values"].as_array().unwrap();
            assert!(values.len() == columns.len() && values.iter().all(Value::is_f64), "{row}");
        }
    }
    for target in all["targets"].as_array().unwrap() {
        let compared = ["nats", "jetstream"].iter().any(|peer| target["what"].as_str().unwrap().contains(peer));
        assert!(!compared || target["measured"].is_null(), "{target}");
    }
}
