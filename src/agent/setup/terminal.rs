//! Whoever answers the questions.

use std::io::{self, BufRead};

use zeroize::Zeroizing;

use super::SetupError;
use crate::host::print;
use crate::protocol::untrusted::one_line;

/// Somebody who reads, and may answer.
pub trait Terminal: Send {
    /// Shows a text.
    ///
    /// # Errors
    /// If it can't be shown.
    fn say(&mut self, text: &str) -> io::Result<()>;

    /// Asks for `what`; `flag` is how it could have been given. An empty answer is `default`.
    ///
    /// # Errors
    /// If nobody answers.
    fn ask(&mut self, what: &'static str, flag: &'static str, default: Option<&str>) -> Result<String, SetupError>;

    /// The same for what nobody may read over a shoulder.
    ///
    /// # Errors
    /// If nobody answers.
    fn ask_secret(&mut self, what: &'static str, flag: &'static str) -> Result<Zeroizing<String>, SetupError>;

    /// The same where there is one already: nothing, if that is kept.
    ///
    /// # Errors
    /// If nobody answers.
    fn ask_new_secret(&mut self, what: &'static str) -> Result<Option<Zeroizing<String>>, SetupError>;

    /// Whether somebody is there who can be asked more.
    fn is_attended(&self) -> bool;

    /// An answer is no use. If somebody can give another one, he is told why.
    ///
    /// # Errors
    /// If there is nobody.
    fn object(&mut self, why: &str) -> Result<(), SetupError>;

    /// Whether to do this. Where there is nobody to ask, it is not done.
    ///
    /// # Errors
    /// If the question is not answered.
    fn agrees(&mut self, question: &str) -> Result<bool, SetupError>;
}

/// A person at a terminal.
#[derive(Debug, Default)]
pub struct Person;

impl Person {
    fn line() -> Result<String, SetupError> {
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Err(SetupError::Stopped);
        }
        Ok(line.trim().to_owned())
    }

    fn prompt(text: &str) -> io::Result<()> {
        print(text)
    }
}

impl Terminal for Person {
    fn say(&mut self, text: &str) -> io::Result<()> {
        Self::prompt(&format!("{text}\n"))
    }

    fn ask(&mut self, what: &'static str, _: &'static str, default: Option<&str>) -> Result<String, SetupError> {
        loop {
            match default {
                Some(default) => Self::prompt(&format!("   {what} [{default}]: "))?,
                None => Self::prompt(&format!("   {what}: "))?,
            }
            match (Self::line()?, default) {
                (answer, Some(default)) if answer.is_empty() => return Ok(default.to_owned()),
                (answer, None) if answer.is_empty() => {}
                (answer, _) => return Ok(answer),
            }
        }
    }

    fn ask_secret(&mut self, what: &'static str, _: &'static str) -> Result<Zeroizing<String>, SetupError> {
        loop {
            let answer = Zeroizing::new(rpassword::prompt_password(format!("   {what} (not shown): "))?);
            if !answer.is_empty() {
                return Ok(answer);
            }
        }
    }

    fn ask_new_secret(&mut self, what: &'static str) -> Result<Option<Zeroizing<String>>, SetupError> {
        let prompt = format!("   {what} (not shown) [unchanged]: ");
        let answer = Zeroizing::new(rpassword::prompt_password(prompt)?);
        Ok(Some(answer).filter(|answer| !answer.is_empty()))
    }

    fn is_attended(&self) -> bool {
        true
    }

    fn object(&mut self, why: &str) -> Result<(), SetupError> {
        // A controller's or a relay's words may stand in it.
        Ok(self.say(&format!("   ! {}", one_line(why)))?)
    }

    fn agrees(&mut self, question: &str) -> Result<bool, SetupError> {
        loop {
            Self::prompt(&format!("   {question} [y/N]: "))?;
            match Self::line()?.to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(true),
                "" | "n" | "no" => return Ok(false),
                _ => self.object("Answer y or n.")?,
            }
        }
    }
}

/// Nobody: whatever is not given is an error that says how to give it.
#[derive(Debug, Default)]
pub struct Nobody;

impl Terminal for Nobody {
    fn say(&mut self, text: &str) -> io::Result<()> {
        Person.say(text)
    }

    fn ask(&mut self, what: &'static str, flag: &'static str, default: Option<&str>) -> Result<String, SetupError> {
        default.map(str::to_owned).ok_or(SetupError::Unanswered { what, flag })
    }

    fn ask_secret(&mut self, what: &'static str, flag: &'static str) -> Result<Zeroizing<String>, SetupError> {
        Err(SetupError::Unanswered { what, flag })
    }

    fn ask_new_secret(&mut self, _: &'static str) -> Result<Option<Zeroizing<String>>, SetupError> {
        Ok(None)
    }

    fn is_attended(&self) -> bool {
        false
    }

    fn object(&mut self, why: &str) -> Result<(), SetupError> {
        Err(SetupError::Refused(why.to_owned()))
    }

    fn agrees(&mut self, _: &str) -> Result<bool, SetupError> {
        Ok(false)
    }
}
