//! Options and operations that an account's own settings turn into nothing: they are refused before anything is written,
//! never ignored.

use super::connection::{Connection, RequestError};
use super::own_password::{self, OwnPassword};
use crate::agent::directory::{DirectoryError, Logon};
use crate::protocol::command::Options;
use crate::protocol::outcome::Code;

/// Why a reset with these options is refused: nothing, if each of them does what it says. `dn` is asked only if it has to be.
pub(super) async fn of_a_reset(
    connection: &Connection,
    dn: &str,
    logon: &Logon,
    options: Options,
) -> Result<Option<&'static str>, RequestError> {
    if !options.force_change_at_next_logon {
        return Ok(None);
    }
    if logon.smart_card_required {
        return Ok(Some(
            "the account needs a smart card (SMARTCARD_REQUIRED), so nothing asks its user for another password at the next \
             logon; nothing was changed. Reset it without force_change_at_next_logon",
        ));
    }
    if logon.password_never_expires {
        return Ok(Some(
            "the account's password never expires (DONT_EXPIRE_PASSWORD), so nothing asks its user for another one at the \
             next logon; nothing was changed. Reset it without force_change_at_next_logon, or take \"Password never expires\" \
             from the account",
        ));
    }
    Ok(match own_password::look(connection, dn).await? {
        OwnPassword::Changeable | OwnPassword::NotShown => None,
        OwnPassword::Denied | OwnPassword::NotGranted => Some(
            "the account's user may not change the password (\"User cannot change password\"), and who is forced to and may \
             not can't log on at all; nothing was changed. Reset it without force_change_at_next_logon, or let the user \
             change the password",
        ),
    })
}

/// Why a change is refused, if the account's user may not change the password.
pub(super) async fn of_a_change(connection: &Connection, dn: &str) -> Result<Option<&'static str>, RequestError> {
    // Where nothing gives it to the user, the service account may still have it.
    let denied = own_password::look(connection, dn).await? == OwnPassword::Denied;
    Ok(denied.then_some(
        "the account's own setting: its user may not change the password (\"User cannot change password\"); nothing was \
         changed. An administrator may reset it, or take the setting away",
    ))
}

/// Refused by `controller`'s account, for this reason.
pub(super) fn refused(code: Code, controller: &str, why: &str) -> DirectoryError {
    DirectoryError::Refused { code, detail: format!("{controller}: {why}") }
}
