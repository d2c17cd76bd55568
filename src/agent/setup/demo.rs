//! A directory for trials, which needs no domain controller and asks nobody for one.

use super::SetupError;
use super::answers::Answers;
use super::terminal::Terminal;
use super::written;
use crate::agent::counted;
use crate::agent::home::Home;
use crate::protocol::command::Subject;
use crate::protocol::password::Password;

/// How it is called where a domain would be.
pub(super) const DEMO: &str = "demo";
const ACCOUNTS: &str = "jane@corp.example";
/// As it stands in deploy/agent.toml.
const FIRST_PASSWORD: &str = "Forgotten-2019!";

/// Asks for its accounts, and writes it.
pub(super) fn written(home: &Home, given: &mut Answers, terminal: &mut dyn Terminal) -> Result<(), SetupError> {
    terminal.say("   A directory for trials: accounts in a file of this agent, and no domain controller.")?;
    let accounts = loop {
        let answer = match given.accounts.take() {
            Some(accounts) => accounts.join(", "),
            None => terminal.ask("Its accounts (jane@corp.example, ...)", "--account", Some(ACCOUNTS))?,
        };
        let accounts = answer.split([',', ';', ' ']).map(str::trim).filter(|name| !name.is_empty());
        let accounts: Vec<_> = accounts.map(str::to_owned).collect();
        let wrong = accounts.iter().find_map(|name| Some((name, Subject::upn(name).err()?)));
        match wrong {
            None => break accounts,
            Some((name, error)) => terminal.object(&format!("{name:?}: {error}"))?,
        }
    };
    let password = Password::new(FIRST_PASSWORD.to_owned()).map_err(|error| SetupError::Refused(error.to_string()))?;
    written::write_demo(home, &accounts, &password)?;
    let (count, file) = (counted(accounts.len(), "account"), home.config());
    Ok(terminal
        .say(&format!("   {count}, each with the password {FIRST_PASSWORD}, which stands in {}.", file.display()))?)
}
