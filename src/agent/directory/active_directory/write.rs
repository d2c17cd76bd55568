//! The writes: one modify each, which is done as a whole or not at all.

use std::collections::HashSet;
use std::sync::Arc;

use ldap3::Mod;
use ldap3::controls::RawControl;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::answer::{Asked, refusal};
use super::connection::RequestError;
use super::controller::{Bound, Controller};
use super::effective::lacking;
use super::own_settings::{self, refused};
use super::policy_hints::not_offered;
use crate::agent::directory::{Deadline, DirectoryError, LateAnswer, Logon, Written};
use crate::protocol::command::Options;
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;

/// Where a write goes, and until when it may begin.
pub(super) struct Target<'a> {
    pub(super) controller: Arc<Controller>,
    pub(super) bound: Arc<Bound>,
    /// What is written: named by what never changes, for another account may have its name by the time of the write.
    pub(super) entry: String,
    pub(super) logon: Logon,
    pub(super) deadline: &'a Deadline,
}

/// What is changed, with the values, which are overwritten when it has been answered.
enum Changes {
    Reset { new: Zeroizing<Vec<u8>>, options: Options },
    Change { current: Zeroizing<Vec<u8>>, new: Zeroizing<Vec<u8>> },
    Unlock,
}

impl Changes {
    fn asked(&self) -> Asked {
        match self {
            Self::Reset { options, .. } => Asked::Reset(*options),
            Self::Change { .. } => Asked::Change,
            Self::Unlock => Asked::Unlock,
        }
    }

    fn modifications(&self) -> Vec<Mod<&[u8]>> {
        match self {
            Self::Reset { new, options } => {
                let mut changes = vec![replace("unicodePwd", new)];
                if options.unlock {
                    changes.push(replace("lockoutTime", b"0"));
                }
                if options.force_change_at_next_logon {
                    changes.push(replace("pwdLastSet", b"0"));
                }
                changes
            }
            // Takes the current password away and adds the new one: so a domain controller knows a change from a reset
            // ([MS-ADTS] 3.1.1.3.1.5).
            Self::Change { current, new } => vec![
                Mod::Delete("unicodePwd".as_bytes(), HashSet::from([current.as_slice()])),
                Mod::Add("unicodePwd".as_bytes(), HashSet::from([new.as_slice()])),
            ],
            // Sets its bad logons to 0 too.
            Self::Unlock => vec![replace("lockoutTime", b"0")],
        }
    }
}

impl Target<'_> {
    /// Sets the password, and what `options` ask for.
    pub(super) async fn reset(self, new_password: &Password, options: Options) -> Result<Written, DirectoryError> {
        let control = match (options.enforce_history, self.bound.policy_hints) {
            (false, _) => None,
            (true, Some(hints)) => Some(hints.control()),
            (true, None) => {
                let detail = not_offered(self.controller.name());
                return Err(DirectoryError::Refused { code: Code::HistoryUnavailable, detail });
            }
        };
        let unkept = own_settings::of_a_reset(&self.bound.connection, &self.entry, &self.logon, options).await;
        if let Some(why) = unkept.map_err(|error| self.unasked(&error))? {
            return Err(refused(Code::Unsupported, self.controller.name(), why));
        }
        self.modify(Changes::Reset { new: unicode_pwd(new_password), options }, control).await
    }

    /// Sets the new password if the current one is right.
    pub(super) async fn change(self, current: &Password, new_password: &Password) -> Result<Written, DirectoryError> {
        let denied = own_settings::of_a_change(&self.bound.connection, &self.entry).await;
        if let Some(why) = denied.map_err(|error| self.unasked(&error))? {
            return Err(refused(Code::UserCannotChangePassword, self.controller.name(), why));
        }
        let (current, new) = (unicode_pwd(current), unicode_pwd(new_password));
        self.modify(Changes::Change { current, new }, None).await
    }

    /// Ends the account's lock.
    pub(super) async fn unlock(self) -> Result<Written, DirectoryError> {
        self.modify(Changes::Unlock, None).await
    }

    /// Of a question before the write: nothing was sent.
    fn unasked(&self, error: &RequestError) -> DirectoryError {
        self.controller.note(false);
        self.controller.discard(&self.bound);
        DirectoryError::Unavailable(format!("{}: {error}", self.controller.name()))
    }

    /// Sends it, if there is still time. Whoever waits for a late answer keeps the connection; nobody else uses it any more.
    async fn modify(self, changes: Changes, control: Option<RawControl>) -> Result<Written, DirectoryError> {
        let Self { controller, bound, entry, deadline, logon: _ } = self;
        let (asked, connected) = (Arc::clone(&controller), Arc::clone(&bound));
        let mut answer: LateAnswer = Box::pin(async move {
            let wanted = changes.asked();
            match connected.connection.modify(&entry, changes.modifications(), control).await {
                Ok(result) if result.rc == 0 => Ok(()),
                Ok(result) => {
                    let lacking = match wanted.rights_in_doubt(&result).as_slice() {
                        [] => Vec::new(),
                        // What can't be asked is not named.
                        needed => lacking(&connected.connection, &connected.identity.token, &entry, needed)
                            .await
                            .unwrap_or_default(),
                    };
                    let refused = refusal(&result, asked.name(), wanted, &lacking);
                    if matches!(refused, DirectoryError::Unavailable(_)) {
                        asked.note(false);
                    }
                    Err(refused)
                }
                Err(error) => {
                    asked.discard(&connected);
                    asked.note(false);
                    let detail = format!("{}: asked to {}: {error}", asked.name(), wanted.doing());
                    Err(match error {
                        // Only questions have the second.
                        RequestError::NotSent | RequestError::CanNot { .. } => DirectoryError::Unavailable(detail),
                        RequestError::Lost | RequestError::Garbled(_) | RequestError::TimedOut(_) => {
                            DirectoryError::Uncertain(detail)
                        }
                    })
                }
            }
        });
        deadline.allows()?;
        match timeout(bound.connection.limit(), &mut answer).await {
            Ok(answered) => answered.map(|()| Written::Done),
            Err(_) => {
                controller.discard(&bound);
                Ok(Written::UnderWay(answer))
            }
        }
    }
}

fn replace<'a>(attribute: &'a str, value: &'a [u8]) -> Mod<&'a [u8]> {
    Mod::Replace(attribute.as_bytes(), HashSet::from([value]))
}

/// The value of `unicodePwd`: UTF-16, little-endian, in quotation marks ([MS-ADTS] 3.1.1.3.1.5.1). The buffer is made
/// large enough at once, so no copy of the password stays behind when it grows.
fn unicode_pwd(password: &Password) -> Zeroizing<Vec<u8>> {
    const QUOTE: u16 = b'"' as u16;
    let units = password.expose().encode_utf16();
    let mut value = Zeroizing::new(Vec::with_capacity(2 * (units.clone().count() + 2)));
    for unit in [QUOTE].into_iter().chain(units).chain([QUOTE]) {
        value.extend_from_slice(&unit.to_le_bytes());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_quoted_utf_16_and_its_buffer_never_grew() {
        let value = unicode_pwd(&Password::new("a😀".to_owned()).unwrap());
        assert_eq!(**value, [0x22, 0, 0x61, 0, 0x3d, 0xd8, 0x00, 0xde, 0x22, 0]);
        assert_eq!(value.capacity(), value.len());
    }
}
