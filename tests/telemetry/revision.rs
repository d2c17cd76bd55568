//! What programs say of the commit that they are built of.

#[path = "../../build/revision.rs"]
mod of_build;

use std::path::Path;
use std::process::Command;

use of_build::{depends_on, revision};

fn git(folder: &Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=a builder", "-c", "user.email=builder@example.com", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").current_dir(folder).args(who).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_release_is_of_its_commit_unless_its_sources_are_others_and_an_image_of_what_its_builder_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let release = |given: Option<&str>| revision(given.map(str::to_owned), folder, true);
    std::fs::create_dir(folder.join("src")).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "//! One.\n").unwrap();
    assert_eq!(release(None), "unknown", "there is no repository");
    assert_eq!(release(Some("v1.2.3-rc.1")), "v1.2.3-rc.1");

    git(folder, &["init", "--quiet"]);
    assert_eq!(release(None), "unknown", "there is no commit");
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "--message", "One"]);
    let commit = git(folder, &["rev-parse", "HEAD"]);
    assert_eq!((commit.len(), release(None)), (40, commit.clone()));
    assert_eq!(revision(None, folder, false), "unknown", "a build for development does not ask");
    for useless in ["", " ", "a b", "a\nb=c"] {
        assert_eq!(release(Some(useless)), commit, "{useless:?} is no revision");
    }
    std::fs::write(folder.join("notes"), "not a source").unwrap();
    assert_eq!(release(None), commit);
    std::fs::write(folder.join("src/lib.rs"), "//! Two.\n").unwrap();
    assert_eq!(release(None), format!("{commit}-dirty"));
    assert_eq!(revision(None, &folder.join("src"), true), "unknown", "this repository is about something else");

    // Another commit is seen, and another source.
    let depends = depends_on(folder);
    for wanted in [".git/HEAD", ".git/logs/HEAD", "src", "Cargo.lock"] {
        assert!(depends.iter().any(|path| path == wanted), "{wanted}: {depends:?}");
    }
}
