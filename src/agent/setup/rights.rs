//! The check, and what helps when rights are missing.

use std::sync::Arc;

use super::SetupError;
use super::answers::Answers;
use super::logon::Tries;
use super::terminal::Terminal;
use crate::agent::config::Config;
use crate::agent::directory::Check;
use crate::agent::directory::active_directory::grant::{Administrator, Grant, GrantError};
use crate::agent::directory::active_directory::{self, ActiveDirectory};
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
        // Whoever can be asked is asked whether he wants the commands; in a log they are all there is.
        let text = if terminal.is_attended() { preflight::brief(&report) } else { preflight::table(&report) };
        terminal.say(&text)?;
        if report.worst() != PreflightState::Failed {
            return Ok(());
        }
        if let directory::Config::ActiveDirectory(config) = opened
            && lacks_rights(&report)
            && given_now(config, given, terminal).await?
        {
            continue;
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

/// Whether an administrator has given the rights. Until then the commands are shown, if somebody wants to see them.
async fn given_now(
    config: &active_directory::Config,
    given: &mut Answers,
    terminal: &mut dyn Terminal,
) -> Result<bool, SetupError> {
    if terminal.is_attended() {
        terminal.say("   The service account lacks rights, which an administrator of the domain can give it.")?;
    }
    let mut asked =
        given.grant.is_some() || terminal.agrees("Give them now, with an administrator's name and password?")?;
    let (mut tries, mut name) = (Tries::default(), None);
    while asked {
        match give(config, given, &mut name, terminal).await {
            Ok(said) => {
                terminal.say(&said)?;
                return Ok(true);
            }
            Err(SetupError::Grant(error)) => {
                // Alone, and last: whatever came before has been read, or never will be.
                terminal.object(&error.to_string())?;
                if let (GrantError::NotBound { .. }, Some(name)) = (&error, &name) {
                    let lockout = ActiveDirectory::new(config).map_err(GrantError::from)?.lockout(name).await;
                    tries.refused(name, lockout, terminal)?;
                }
                asked = terminal.agrees("Try it again?")?;
            }
            Err(error) => return Err(error),
        }
    }
    if terminal.agrees("Show the commands that give them?")? {
        terminal.say(&Grant::prepare(config, None, None).await?.commands())?;
    }
    Ok(false)
}

async fn give(
    config: &active_directory::Config,
    given: &mut Answers,
    before: &mut Option<String>,
    terminal: &mut dyn Terminal,
) -> Result<String, SetupError> {
    // What is given is tried once.
    let name = match given.grant.take() {
        Some(name) => name,
        None => terminal.ask("Administrator (administrator@corp.example)", "--grant", before.as_deref())?,
    };
    *before = Some(name.clone());
    let password = match given.grant_password.take() {
        Some(password) => password.0,
        None => terminal.ask_secret("Password, used once and written nowhere", "--grant-password-file")?,
    };
    let administrator = Administrator { name, password };
    Ok(Grant::prepare(config, None, Some(&administrator)).await?.apply().await?)
}
