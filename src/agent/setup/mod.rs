//! From nothing to an agent that works, in the order in which an administrator knows the answers: the relay and the code,
//! the directory, the service account, the units, the check, the start. Each answer is tried at once; what is done already
//! is kept, so that setting up again goes on where it ended.
//!
//! | module | what |
//! |---|---|
//! | `answers` | what is known before anybody is asked |
//! | `terminal` | whoever is asked |
//! | `relay`, `directory`, `units`, `logon`, `demo` | the answers, tried |
//! | `present` | what was answered before |
//! | `written`, `edited` | `agent.toml` |
//! | `rights` | the check, and the delegation |

mod answers;
mod demo;
mod directory;
mod edited;
mod logon;
mod present;
mod relay;
mod rights;
mod terminal;
mod units;
mod written;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::answers::{Answers, AnswersError, Secret};
use self::present::{Before, Present};
pub use self::terminal::{Nobody, Person, Terminal};
use super::config::{Config, ConfigError};
use super::control::{self, Ask};
use super::directory::active_directory::grant::GrantError;
use super::directory::config::OpenError;
use super::enroll::EnrollError;
use super::home::Home;
use super::started;
use crate::clock::{Clock, Random};
use crate::protocol::api::AgentStatus;
use crate::protocol::untrusted::one_line;
use crate::storage::{FileError, make_private_folder};

/// Why the agent is not set up. What was done before is kept.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is nobody to ask.
    #[error("{what} is not given, and there is nobody to ask: give {flag}, or run setup in a terminal")]
    Unanswered {
        /// What is missing.
        what: &'static str,
        /// How to give it.
        flag: &'static str,
    },
    /// An answer is no use, and there is nobody to ask for another.
    #[error("{0}")]
    Refused(String),
    /// The check found what makes resets fail.
    #[error("the check has found what makes resets fail; mend it and run setup again, which goes on from here")]
    Red,
    /// Whoever was asked has gone, or does not want to go on.
    #[error("setup was stopped; run it again to go on from here")]
    Stopped,
    /// The terminal.
    #[error("the terminal: {0}")]
    Terminal(#[from] std::io::Error),
    /// `agent.toml` says what setup does not ask for.
    #[error("{path}: {why}, so it is changed by hand: all settings stand in deploy/agent.toml")]
    ByHand {
        /// The file.
        path: PathBuf,
        /// What.
        why: &'static str,
    },
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// `agent.toml`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory in it.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// The delegation.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The enrolment.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
}

/// Sets an agent up in `home`.
///
/// # Errors
/// If an answer is missing or no use, the check is red and nobody says to go on, or the relay refuses.
pub async fn set_up(
    home: &Home,
    mut given: Answers,
    terminal: &mut dyn Terminal,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<(), SetupError> {
    make_private_folder(home.folder())?;
    let enrolled = home.identity()?;
    let path = home.config();
    let before = Before::read(&path)?;
    terminal.say("1. The relay")?;
    let code = match &enrolled {
        Some(identity) => {
            terminal.say(&format!("   This agent is enrolled at {} already.", one_line(&identity.relay)))?;
            None
        }
        None => Some(relay::code(&mut given, terminal)?),
    };
    let access = Config::load(&path)?.relay;
    // What is in the file already leads there, or is changed.
    let known = code.as_ref().filter(|_| matches!(before, Before::Nothing)).map(|code| code.relay.clone());
    let changed = enrolled.as_ref().filter(|_| given.change_the_relay()).map(|identity| identity.relay.clone());
    if let Some(relay) = known.or(changed) {
        relay::reached(&relay, &access, &mut given, terminal).await?;
    }
    terminal.say("2. The directory")?;
    let mut changed = answered(home, &mut given, &before, terminal, &*clock).await?;
    if given.change_the_relay() {
        written::write_relay(home, &given)?;
        changed = true;
    }
    if changed {
        terminal.say(&format!("   {} is written.", path.display()))?;
    }
    let config = Config::load(&path)?;
    terminal.say("5. The check")?;
    rights::checked(home, &config, &mut given, terminal, &clock, &random).await?;
    terminal.say("6. The start")?;
    if let Some(code) = code {
        let (code, enrolled) = relay::redeemed(home, code, &config.relay.access()?, terminal, &clock, &random).await?;
        terminal.say(&format!("   Enrolled as agent {}.\n   Fingerprint  {}", enrolled.agent, enrolled.fingerprint))?;
        if enrolled.status == AgentStatus::Pending {
            terminal.say(&format!(
                "   Before it gets commands, somebody at the portal compares the fingerprint and approves the agent:\n     \
                 writeback-portal approve {} {}",
                code.tenant, enrolled.agent
            ))?;
        }
    }
    // Rights that were given just now it knows only when it has looked.
    let ask = if changed { Ask::Status } else { Ask::Check };
    let said = match control::ask(home, ask).await {
        Ok(Some(_)) if changed => {
            format!("The agent runs with what was said before. Start it again:\n     {}", started::restart())
        }
        Ok(Some(_)) => "The agent runs, and checks again.".to_owned(),
        _ => format!("Start it:\n     {}", started::start(home)),
    };
    Ok(terminal.say(&format!("   {said}"))?)
}

/// Whether the directory was answered, or is kept as it was.
async fn answered(
    home: &Home,
    given: &mut Answers,
    before: &Before,
    terminal: &mut dyn Terminal,
    clock: &dyn Clock,
) -> Result<bool, SetupError> {
    let path = home.config();
    let named = given.change_the_directory();
    let before = match before {
        Before::Nothing => None,
        Before::ByHand(why) if named => return Err(SetupError::ByHand { path, why }),
        Before::ByHand(why) => {
            terminal.say(&format!("   {} is there already, and is kept: {why}.", path.display()))?;
            return Ok(false);
        }
        Before::Directory(present) => {
            terminal.say(&format!("   {} is there already, and is kept.", path.display()))?;
            if !named && !terminal.agrees("Change the directory, the service account or the units?")? {
                return Ok(false);
            }
            if named {
                // The others stay as they are; each can be asked for by its flag.
                given.keep(present);
            }
            Some(Present { is_asked_for: !named, ..(**present).clone() })
        }
    };
    let before = before.as_ref();
    let directory = directory::asked(given, before, terminal)?;
    if directory.trim() == demo::DEMO {
        // What is there would be mixed with it.
        if before.is_some() {
            return Err(SetupError::ByHand { path, why: "it has an Active Directory already" });
        }
        demo::written(home, given, terminal)?;
        return Ok(true);
    }
    directory::found(home, directory, given, before, terminal, clock).await?.write(home)?;
    Ok(true)
}
