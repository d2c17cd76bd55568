//! Which commit a program is built of.

use std::path::Path;
use std::process::Command;

/// What a program is made from.
const SOURCES: [&str; 6] = ["src", "proto", "build", "build.rs", "Cargo.toml", "Cargo.lock"];

/// The commit, `-dirty` behind it if the sources are not as it has them; `unknown` if nobody says it.
///
/// `given` is what the builder says: an image is built without the repository. It is asked itself only for a release, where
/// each commit has everything compiled again.
pub(crate) fn revision(given: Option<String>, folder: &Path, is_release: bool) -> String {
    let given = given.map(|text| text.trim().to_owned()).filter(|text| is_plain(text));
    let asked = || if is_release { of_repository(folder) } else { None };
    given.or_else(asked).unwrap_or_else(|| "unknown".to_owned())
}

/// What the answer depends on: if it changes, ask again.
pub(crate) fn depends_on(folder: &Path) -> Vec<String> {
    let files = ["HEAD", "logs/HEAD"].into_iter().filter_map(|file| git(folder, &["rev-parse", "--git-path", file]));
    files.filter(|file| folder.join(file).exists()).chain(SOURCES.map(str::to_owned)).collect()
}

fn of_repository(folder: &Path) -> Option<String> {
    // Not that of a repository around it, which somebody has put these sources into.
    if !git(folder, &["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    let commit = git(folder, &["rev-parse", "--verify", "HEAD"])?;
    let mut status = vec!["status", "--porcelain", "--untracked-files=no", "--"];
    status.extend(SOURCES.into_iter().filter(|source| folder.join(source).exists()));
    let dirty = if git(folder, &status)?.is_empty() { "" } else { "-dirty" };
    Some(format!("{commit}{dirty}"))
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(folder).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// It becomes a metric's label: a commit or a tag, and no line's end.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}
