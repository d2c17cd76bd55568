//! From nothing to an agent that works, in the order in which an administrator knows the answers: the relay and the code,
//! the directory, the service account, the units, the check, the start. Each answer is tried at once; what is done already
//! is kept, so that setting up again goes on where it ended.
//!
//! | module | what |
//! |---|---|
//! | `answers` | what is known before anybody is asked |
//! | `terminal` | whoever is asked |
//! | `relay`, `directory` | the answers, tried |
//! | `written` | `agent.toml` |
//! | `rights` | the check, and the delegation |

mod answers;
mod directory;
mod relay;
mod rights;
mod terminal;
mod written;

use std::path::Path;
use std::sync::Arc;

pub use self::answers::{Answers, AnswersError, Secret};
pub use self::terminal::{Nobody, Person, Terminal};
use super::config::{Config, ConfigError};
use super::control::have_checked;
use super::directory::active_directory::grant::GrantError;
use super::directory::config::OpenError;
use super::enroll::EnrollError;
use super::home::Home;
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
    let written = home.config().exists();
    terminal.say("1. The relay")?;
    let code = match &enrolled {
        Some(identity) => {
            terminal.say(&format!("   This agent is enrolled at {} already.", one_line(&identity.relay)))?;
            None
        }
        None if written => Some(relay::code(&mut given, terminal)?),
        None => Some(relay::reached(&mut given, terminal).await?),
    };
    if written {
        let path = home.config();
        terminal.say(&format!("2. The directory\n   {} is there already, and is kept.", path.display()))?;
    } else {
        let directory = directory::found(home, &mut given, terminal, &*clock).await?;
        written::write(home, &given, &directory)?;
        terminal.say(&format!("   {} is written.", home.config().display()))?;
    }
    let config = Config::load(&home.config())?;
    terminal.say("5. The check")?;
    rights::checked(home, &config, &mut given, terminal, &clock, &random).await?;
    if let Some(said) = have_checked(home).await {
        terminal.say(&format!("   {said}"))?;
    }
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
    Ok(terminal.say(&format!("   Start it:\n     {}", start(home)))?)
}

/// How a service is started here.
fn start(home: &Home) -> String {
    if Path::new("/run/systemd/system").exists() {
        "systemctl enable --now writeback-agent".to_owned()
    } else {
        format!("writeback-agent --home {} run", home.folder().display())
    }
}
