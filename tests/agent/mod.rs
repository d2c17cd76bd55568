//! The agent, against a relay that a test holds in its hand.

mod crash;
mod enrolment;
mod sessions;
mod two_sessions;
