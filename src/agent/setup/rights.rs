//! The check, and what helps when rights are missing.

use std::sync::Arc;

use super::SetupError;
use super::answers::Answers;
use super::terminal::Terminal;
use crate::agent::config::Config;
use crate::agent::directory::Check;
use crate::agent::directory::active_directory::grant::{Administrator, Grant};
use crate::agent::directory::config as directory;
use crate::agent::home::Home;
use crate::agent::preflight;
use crate::clock::{Clock, Random};
use crate::protocol::api::{PreflightReport, PreflightState};
use crate::protocol::untrusted::Untrusted;

/// Checks until it is not red, or somebody goes on all the same.
pub(super) async fn checked(
    home: &Home,
    config: &Config,
    given: &mut Answers,
    terminal: &mut dyn Terminal,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<(), SetupError> {
    let opened = config.directory(&home.config())?;
    loop {
        let directory = opened.open(Arc::clone(clock), Arc::clone(random))?;
        let report = preflight::check(home, &*directory, &config.relay.access()?, &**clock).await;
        terminal.say(&preflight::table(&report))?;
        if report.worst() != PreflightState::Failed {
            return Ok(());
        }
        match opened {
            directory::Config::ActiveDirectory(config) if lacks_rights(&report) => {
                terminal
                    .say("   The service account lacks rights. An administrator gives them with these commands:\n")?;
                terminal.say(&Grant::prepare(config, None, None).await?.commands())?;
                if given.grant.is_some()
                    || terminal.agrees("Give them now, with an administrator's name and password?")?
                {
                    if let Err(error) = give(config, given, terminal).await {
                        terminal.object(&error.to_string())?;
                    }
                    continue;
                }
            }
            _ => {}
        }
        if terminal.agrees("Check again?")? {
            continue;
        }
        let go_on = given.despite_failures || terminal.agrees("Resets will fail. Go on all the same?")?;
        return if go_on { Ok(()) } else { Err(SetupError::Red) };
    }
}

fn lacks_rights(report: &PreflightReport) -> bool {
    let right = |name: &Untrusted| Check::ALL.iter().any(|check| *name == *check.as_str() && check.is_right());
    report.rows.iter().any(|row| row.state == PreflightState::Failed && right(&row.check))
}

async fn give(
    config: &crate::agent::directory::active_directory::Config,
    given: &mut Answers,
    terminal: &mut dyn Terminal,
) -> Result<(), SetupError> {
    // What is given is tried once.
    let name = match given.grant.take() {
        Some(name) => name,
        None => terminal.ask("Administrator (administrator@corp.example)", "--grant", None)?,
    };
    let password = match given.grant_password.take() {
        Some(password) => password.0,
        None => terminal.ask_secret("Password, used once and written nowhere", "--grant-password-file")?,
    };
    let administrator = Administrator { name, password };
    let said = Grant::prepare(config, None, Some(&administrator)).await?.apply().await?;
    Ok(terminal.say(&said)?)
}
