//! The agent, against a relay that a test holds in its hand.

mod addresses;
mod bad_config;
mod bad_files;
mod control;
mod crash;
mod enrolment;
mod flood;
mod networks;
mod root;
mod service;
pub(crate) mod sessions;
mod two_sessions;
mod untrusted;
mod upgrade;
mod wizard;
