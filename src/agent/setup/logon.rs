//! Passwords that are tried: whoever mistypes one too often locks the account, and that may be one that others need.

use super::SetupError;
use super::terminal::Terminal;
use crate::agent::directory::active_directory::Lockout;

/// Tries of this setup that were refused.
#[derive(Default)]
pub(super) struct Tries {
    account: String,
    refused: u32,
}

impl Tries {
    /// One more for this account. `lockout` is what the domain says of it, if it can be asked.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(super) fn refused(
        &mut self,
        account: &str,
        lockout: Option<Lockout>,
        terminal: &mut dyn Terminal,
    ) -> Result<(), SetupError> {
        if !self.account.eq_ignore_ascii_case(account) {
            *self = Self { account: account.to_owned(), refused: 0 };
        }
        self.refused += 1;
        if let Some(warning) = warning(account, self.refused, lockout) {
            terminal.say(&format!("   {warning}"))?;
        }
        Ok(())
    }
}

fn warning(account: &str, refused: u32, lockout: Option<Lockout>) -> Option<String> {
    match lockout {
        Some(Lockout { threshold, wrong }) if wrong + 1 >= threshold => Some(format!(
            "Careful: this domain locks an account after {threshold} wrong passwords, and {account} has {wrong}. The next \
             wrong one locks it."
        )),
        Some(Lockout { threshold, wrong }) => {
            Some(format!("{wrong} of the {threshold} wrong passwords after which this domain locks an account."))
        }
        None if refused > 1 => Some(format!(
            "Careful: that was try {refused} for {account} here. A domain locks an account after some wrong passwords, often \
             3 or 5: look the password up before the next one."
        )),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_before_the_try_that_locks() {
        let of = |wrong| Some(Lockout { threshold: 3, wrong });
        assert!(warning("a", 1, of(1)).unwrap().starts_with("1 of the 3 "));
        assert!(warning("a", 1, of(2)).unwrap().contains("The next wrong one locks it"));
        assert!(warning("a", 1, None).is_none());
        assert!(warning("a", 2, None).unwrap().contains("try 2 for a"));
    }
}
