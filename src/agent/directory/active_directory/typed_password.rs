//! One logon, for somebody who has just typed a password: each wrong one counts, so no second controller is asked.

use ldap3::LdapResult;

use super::ActiveDirectory;
use super::answer::{bind_data, diagnostic, is_about_the_account};
use super::contest::Contest;
use super::read_only;

impl ActiveDirectory {
    /// Whether the account can log on at the first controller that answers. One that says something else than yes or no is no
    /// answer, and whoever needs the controllers is told.
    ///
    /// # Errors
    /// If it is refused; then why, for people.
    pub async fn log_on(&self, account: &str, password: &str) -> Result<(), String> {
        // That would bind nobody, and succeed (RFC 4513 §5.1.2).
        if password.is_empty() {
            return Err(format!("{account}: the password is empty"));
        }
        for domain in &self.domains {
            let controllers = domain.in_order().await.unwrap_or_default();
            let mut contest = Contest::of(controllers, |controller| async move { controller.open().await });
            while let Some((controller, opened)) = contest.next().await {
                let Ok(connection) = opened else { continue };
                // Such a one is at a place where fewer secrets should be.
                if read_only::look(&connection).await.is_ok_and(|kind| kind.read_only().is_some()) {
                    continue;
                }
                match connection.bind(account, password).await {
                    Ok(result) if result.rc == 0 => return Ok(()),
                    Ok(result) if is_about_the_account(&result) => {
                        return Err(format!("{}: {account} can't log on: {}", controller.name(), refused(&result)));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// Why somebody was not let in.
pub(super) fn refused(result: &LdapResult) -> String {
    match bind_data(result).as_deref() {
        Some("52e" | "525") => "no such account, or the password is wrong".to_owned(),
        Some("530") => "the account may not log on at this hour".to_owned(),
        Some("531") => "the account may not log on from this host".to_owned(),
        Some("532" | "773") => "its password has to be changed first".to_owned(),
        Some("533") => "the account is disabled".to_owned(),
        Some("701") => "the account has expired".to_owned(),
        Some("775") => "the account is locked".to_owned(),
        _ => diagnostic(result),
    }
}
