//! docs/security.md names a test behind each line: there is such a test.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The name of every function of the sources.
fn functions(folder: &Path, found: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            functions(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_the_document_names_is_there() {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/security.md")).unwrap();
    let named: Vec<_> = text.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2).collect();
    assert!(named.len() > 30, "{named:?}");
    let mut known = HashSet::new();
    ["src", "tests"].iter().for_each(|folder| functions(&Path::new(ROOT).join(folder), &mut known));
    for name in named {
        assert!(known.contains(name), "docs/security.md names {name}, and there is no such test");
    }
}
