//! The write.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::answer::refusal;
use super::connection::RequestError;
use super::controller::{Bound, Controller};
use crate::agent::directory::{Deadline, DirectoryError};
use crate::protocol::command::Options;
use crate::protocol::outcome::Code;
use crate::protocol::password::Password;

/// Sets the password, and what `options` ask for, in one modify, if there is still time for it.
pub(super) async fn reset(
    controller: &Controller,
    bound: &Arc<Bound>,
    dn: &str,
    new_password: &Password,
    options: Options,
    deadline: &Deadline,
) -> Result<(), DirectoryError> {
    if options.enforce_history {
        return Err(DirectoryError::Refused {
            code: Code::Unsupported,
            detail: "enforce_history can't be asked of this directory yet".to_owned(),
        });
    }
    let quoted = unicode_pwd(new_password);
    let mut values: Vec<(&str, &[u8])> = vec![("unicodePwd", &quoted)];
    if options.unlock {
        values.push(("lockoutTime", b"0"));
    }
    if options.force_change_at_next_logon {
        values.push(("pwdLastSet", b"0"));
    }
    deadline.allows()?;
    match bound.connection.replace(dn, &values).await {
        Ok(result) if result.rc == 0 => Ok(()),
        Ok(result) => Err(refusal(&result, controller.name(), "reset the password")),
        Err(error) => {
            controller.discard(bound);
            let detail = format!("{}: resetting the password: {error}", controller.name());
            Err(match error {
                RequestError::NotSent => DirectoryError::Unavailable(detail),
                RequestError::Lost | RequestError::Garbled | RequestError::TimedOut(_) => {
                    DirectoryError::Uncertain(detail)
                }
            })
        }
    }
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
