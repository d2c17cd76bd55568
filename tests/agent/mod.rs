//! The agent, against a relay that a test holds in its hand.

mod crash;
mod enrolment;
mod networks;
mod service;
pub(crate) mod sessions;
mod two_sessions;
