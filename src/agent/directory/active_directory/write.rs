//! The writes: one modify each, which is done as a whole or not at all.

use std::collections::HashSet;
use std::sync::Arc;

use ldap3::Mod;
use ldap3::controls::RawControl;
use zeroize::Zeroizing;

use super::answer::refusal;
use super::connection::RequestError;
use super::controller::{Bound, Controller};
use super::policy_hints::not_offered;
use crate::agent::directory::{Deadline, DirectoryError};
use crate::protocol::command::Options;
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;

/// Where a write goes, and until when it may begin.
pub(super) struct Target<'a> {
    pub(super) controller: Arc<Controller>,
    pub(super) bound: Arc<Bound>,
    pub(super) dn: String,
    pub(super) deadline: &'a Deadline,
}

impl Target<'_> {
    /// Sets the password, and what `options` ask for.
    pub(super) async fn reset(&self, new_password: &Password, options: Options) -> Result<(), DirectoryError> {
        let control = match (options.enforce_history, self.bound.policy_hints) {
            (false, _) => None,
            (true, Some(hints)) => Some(hints.control()),
            (true, None) => {
                let detail = not_offered(self.controller.name());
                return Err(DirectoryError::Refused { code: Code::HistoryUnavailable, detail });
            }
        };
        let new = unicode_pwd(new_password);
        let mut changes = vec![replace("unicodePwd", &new)];
        if options.unlock {
            changes.push(replace("lockoutTime", b"0"));
        }
        if options.force_change_at_next_logon {
            changes.push(replace("pwdLastSet", b"0"));
        }
        self.modify("reset the password", changes, control).await
    }

    /// Takes the current password away and adds the new one: so a domain controller knows a change from a reset
    /// ([MS-ADTS] 3.1.1.3.1.5).
    pub(super) async fn change(&self, current: &Password, new_password: &Password) -> Result<(), DirectoryError> {
        let (current, new) = (unicode_pwd(current), unicode_pwd(new_password));
        let changes = vec![
            Mod::Delete("unicodePwd".as_bytes(), HashSet::from([current.as_slice()])),
            Mod::Add("unicodePwd".as_bytes(), HashSet::from([new.as_slice()])),
        ];
        self.modify("change the password", changes, None).await
    }

    /// Ends the account's lock, which sets its bad logons to 0 too.
    pub(super) async fn unlock(&self) -> Result<(), DirectoryError> {
        self.modify("unlock", vec![replace("lockoutTime", b"0")], None).await
    }

    /// Sends it, if there is still time.
    async fn modify(
        &self,
        doing: &str,
        changes: Vec<Mod<&[u8]>>,
        control: Option<RawControl>,
    ) -> Result<(), DirectoryError> {
        let Self { controller, bound, .. } = self;
        self.deadline.allows()?;
        match bound.connection.modify(&self.dn, changes, control).await {
            Ok(result) if result.rc == 0 => Ok(()),
            Ok(result) => Err(refusal(&result, controller.name(), doing)),
            Err(error) => {
                controller.discard(bound);
                let detail = format!("{}: asked to {doing}: {error}", controller.name());
                Err(match error {
                    RequestError::NotSent => DirectoryError::Unavailable(detail),
                    RequestError::Lost | RequestError::Garbled | RequestError::TimedOut(_) => {
                        DirectoryError::Uncertain(detail)
                    }
                })
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
