//! The agent's Active Directory against a real domain controller.

mod account;
mod change;
mod controllers;
mod dead;
mod deadline;
mod failover;
mod grant;
mod hindrances;
mod hostile;
mod identity;
mod late;
mod ldap_proxy;
mod options;
mod password_check;
mod policy_hints;
mod preflight;
mod protected;
mod reset;
mod rights;
mod sentences;
mod speed;
mod transport;
mod trouble;
mod unlock;

use writeback_relay::agent::directory::active_directory::{ActiveDirectory, Config};
use writeback_relay::agent::directory::{Deadline, DirectoryError};
use writeback_relay::clock::{System, UnixTime};
use writeback_relay::protocol::command::Subject;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::password::Password;

use crate::support::samba::dc;

/// What accounts have before a test.
const OLD: &str = "Initial-Passw0rd1";
/// What they get.
const NEW: &str = "Better-Passw0rd-2";

/// A configuration for the domain controller, over LDAPS.
fn config() -> Config {
    let (bind_user, bind_password_file) = dc().service_account();
    Config {
        url: vec![dc().ldaps_url()],
        domain: None,
        sites: Vec::new(),
        name_servers: Vec::new(),
        domains: Vec::new(),
        start_tls: false,
        ca_file: Some(dc().ca_file()),
        bind_user,
        bind_password_file,
        base_dn: Vec::new(),
        protected_groups: None,
        connect_timeout_seconds: 5,
        operation_timeout_seconds: 10,
    }
}

fn directory() -> ActiveDirectory {
    ActiveDirectory::new(&config()).unwrap()
}

fn upn(text: &str) -> Subject {
    Subject::upn(text).unwrap()
}

fn password(text: &str) -> Password {
    Password::new(text.to_owned()).unwrap()
}

/// Of a write that is never too late.
fn in_time() -> Deadline {
    Deadline::new(UnixTime(i64::MAX), System::clock())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, DirectoryError>) -> (Code, String) {
    match answer {
        Err(DirectoryError::Refused { code, detail } | DirectoryError::LeftAlone { code, detail, .. }) => {
            (code, detail)
        }
        other => panic!("a refusal was expected: {other:?}"),
    }
}

#[track_caller]
fn unavailable<T: std::fmt::Debug>(answer: Result<T, DirectoryError>) -> String {
    match answer {
        Err(DirectoryError::Unavailable(detail)) => detail,
        other => panic!("Unavailable was expected: {other:?}"),
    }
}

#[track_caller]
fn uncertain<T: std::fmt::Debug>(answer: Result<T, DirectoryError>) -> String {
    match answer {
        Err(DirectoryError::Uncertain(detail)) => detail,
        other => panic!("Uncertain was expected: {other:?}"),
    }
}
