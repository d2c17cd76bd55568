//! Passwords from a terminal, or as lines from standard input; never from the command line, which other users can see.

use std::fs::File;
use std::io::{IsTerminal, Read, stdin};
use std::os::fd::AsFd;

use writeback_relay::protocol::password::Password;
use zeroize::Zeroizing;

use crate::Outcome;

/// The current one: asked for once, or one line.
pub(crate) fn current() -> Outcome<Password> {
    if stdin().is_terminal() {
        return Ok(Password::new(rpassword::prompt_password("Current password: ")?)?);
    }
    line("the current password")
}

/// A new one: asked for twice, or one line.
pub(crate) fn new() -> Outcome<Password> {
    if stdin().is_terminal() {
        let first = Password::new(rpassword::prompt_password("New password: ")?)?;
        let second = Password::new(rpassword::prompt_password("Once more: ")?)?;
        return if first == second { Ok(first) } else { Err("the two are not the same".into()) };
    }
    line("the new password")
}

/// The next line of standard input, of which only the line's end is taken off.
fn line(what: &str) -> Outcome<Password> {
    // Past std's buffer, of which nobody would overwrite the copy; one piece, so that none is left by growing. Byte by
    // byte, since whoever writes may keep the pipe open after the line, and another line may follow.
    const LONGEST: usize = 4 * 256 + 2;
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut input = File::from(stdin().as_fd().try_clone_to_owned()?);
    let mut one = Zeroizing::new([0]);
    while line.len() < LONGEST && input.read(&mut one[..])? == 1 {
        match *one {
            [b'\n'] => break,
            [byte] => line.push(byte),
        }
    }
    let line = line.as_slice();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Windows' mark of UTF-8 may stand before the first line of a file.
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    if line.contains(&0) {
        return Err(format!("{what} on standard input is UTF-16; convert it: iconv -f UTF-16 -t UTF-8").into());
    }
    let text = std::str::from_utf8(line).map_err(|_| format!("{what} on standard input is not UTF-8"))?;
    Ok(Password::new(text.to_owned()).map_err(|error| format!("{what}: {error}"))?)
}
