//! The chart as others get it: packed, with everything in it that it leads to.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::chart::one;
use super::{installed, list, objects, project, template_of, text, yaml};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn helm(home: &Path, arguments: &[&str]) {
    let mut helm = Command::new(installed("helm"));
    let output = helm.env("HOME", home).current_dir(project("")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Unpacks what was packed into `folder`.
fn unpacked(folder: &Path) -> PathBuf {
    let package = folder.join(concat!("writeback-relay-", env!("CARGO_PKG_VERSION"), ".tgz"));
    let tar =
        Command::new("tar").arg("--extract").arg("--gzip").arg("--file").arg(package).current_dir(folder).status();
    assert!(tar.unwrap().success());
    folder.join("writeback-relay")
}

/// By the project's own script, as docs/operations.md has it.
fn published(folder: &Path, arguments: &[&str]) -> Output {
    let mut script = Command::new("python3");
    script.env("HELM", installed("helm")).env("HOME", folder).arg(project("helm/package.py")).args(arguments);
    script.arg("--destination").arg(folder).output().unwrap()
}

/// Where the links of a page lead to.
fn links(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

#[test]
fn helm_itself_finds_nothing_to_say_and_what_is_packed_leads_nowhere_outside() {
    let folder = tempfile::tempdir().unwrap();
    helm(folder.path(), &["lint", "--strict", "--values", "tests/deploy/values/everything.yaml", "helm"]);
    helm(folder.path(), &["package", "helm", "--destination", &folder.path().display().to_string()]);
    let chart = unpacked(folder.path());
    for file in ["files/rules.yaml", "files/grafana/overview.json", "values.schema.json", "templates/NOTES.txt"] {
        assert!(chart.join(file).is_file(), "{file} is not in it");
    }
    let mut found = 0;
    for page in ["README.md", "UPGRADING.md"] {
        for link in links(&chart.join(page)) {
            let (file, _) = link.split_once('#').unwrap_or((&link, ""));
            assert!(chart.join(file).exists(), "{page} leads to {link}, which is not in the package");
            found += 1;
        }
    }
    assert!(found > 0, "no link was looked at");
}

#[test]
fn a_catalogue_is_told_what_the_chart_is() {
    let chart = yaml("helm/Chart.yaml");
    assert!(text(&chart["icon"]).starts_with("data:image/svg+xml,"));
    assert!(chart["keywords"].as_array().unwrap().len() > 2);
    assert_eq!(chart["kubeVersion"], ">=1.30.0-0");
    assert_eq!(chart["annotations"]["artifacthub.io/license"], "Apache-2.0");
    assert_eq!(text(&chart["version"]), env!("CARGO_PKG_VERSION"));
    let changes = objects(text(&chart["annotations"]["artifacthub.io/changes"]), &[]).unwrap();
    for change in changes[0].as_array().unwrap() {
        let kinds = ["added", "changed", "deprecated", "removed", "fixed", "security"];
        assert!(kinds.contains(&text(&change["kind"])) && change["description"].is_string(), "{change}");
    }
}

#[test]
fn who_publishes_it_says_where_it_is_read_and_links_and_alerts_lead_there() {
    let folder = tempfile::tempdir().unwrap();
    let (home, docs) = ("https://git.example.com/relay", "https://git.example.com/relay/blob/v0.1.0/docs");
    let output = published(folder.path(), &["--home", home, "--docs", docs]);
    assert!(output.status.success(), "{}", said(&output));
    let chart = unpacked(folder.path());
    let facts = objects(&std::fs::read_to_string(chart.join("Chart.yaml")).unwrap(), &[]).unwrap().remove(0);
    assert_eq!((text(&facts["home"]), text(&facts["sources"][0])), (home, home));
    assert!(text(&facts["annotations"]["artifacthub.io/links"]).contains(&format!("{docs}/operations.md")));
    for page in ["README.md", "UPGRADING.md"] {
        assert!(links(&chart.join(page)).contains(&format!("{docs}/operations.md")), "{page}");
    }
    let values = project("tests/deploy/values/redis.yaml");
    let rendered = template_of(&chart, &values, &["prometheusRule.enabled=true"]).unwrap();
    let rendered = objects(&rendered, &["--check"]).unwrap();
    let rule = one(&rendered, "PrometheusRule");
    let mut rules = list(&rule["spec"]["groups"]).iter().flat_map(|group| list(&group["rules"]));
    let alert = rules.find(|rule| rule["alert"].is_string()).unwrap();
    let runbook = text(&alert["annotations"]["runbook_url"]);
    assert!(runbook.starts_with(&format!("{docs}/operations.md#")), "{runbook}");
    assert!(!published(folder.path(), &["--home", home]).status.success(), "without --docs nothing leads anywhere");
    let wrong = published(folder.path(), &["--home", "git.example.com", "--docs", docs]);
    assert!(!wrong.status.success() && said(&wrong).contains("git.example.com: https://"), "{}", said(&wrong));
}
