//! `events` and `support-bundle`.

use std::path::Path;
use std::time::Duration;

use writeback_relay::agent::events::{self, Filter};
use writeback_relay::agent::home::Home;
use writeback_relay::agent::support_bundle as bundle;
use writeback_relay::clock::System;
use writeback_relay::host;
use writeback_relay::storage::PrivateFile;

use super::Failure;

/// How often a followed event log is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) async fn events(
    home: &Home,
    filter: &Filter,
    count: usize,
    follow: bool,
    json: bool,
) -> Result<(), Failure> {
    let shown = |line: String| if json { line } else { events::for_people(&line) };
    let (lines, mut follower) = events::tail(&home.events(), count, filter)?;
    for line in lines {
        host::print(&format!("{}\n", shown(line)))?;
    }
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        for line in follower.lines()?.into_iter().filter(|line| filter.takes(line)) {
            host::print(&format!("{}\n", shown(line)))?;
        }
    }
}

pub(crate) async fn support_bundle(home: &Home, file: &Path) -> Result<(), Failure> {
    let text = bundle(home, System::clock(), System::random()).await;
    if file == Path::new("-") {
        return Ok(host::print(&text)?);
    }
    PrivateFile::new(file).replace(&text)?;
    Ok(host::print(&format!("{} is written; read it before you send it\n", file.display()))?)
}
