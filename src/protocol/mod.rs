//! The objects on the wire, pure: no input, no output, no clock of their own.
//!
//! | module | what |
//! |---|---|
//! | [`json`] | how all of them are read |
//! | [`ids`] | tenants, portals, agents, commands |
//! | [`jose`] | JWK, JWS, JWE: the standards, pinned to the few algorithms we take |
//! | [`command`], [`sealed`] | what a portal asks, and the password that only the agent can open |
//! | [`account`] | when two names are one account's, and which one was found |
//! | [`outcome`], [`event`] | what an agent answers, and how its event log names it |
//! | [`assertion`] | who opens a session or makes a call |
//! | [`enrollment`], [`enrolment_code`] | how an agent comes in |
//! | [`rotation`] | how keys change |
//! | [`frame`] | what travels on a session |
//! | [`api`], [`problem`] | what travels over HTTPS |
//! | [`hindrance`] | what keeps a user from logging on after a success |
//! | [`untrusted`], [`remedy`] | what others wrote for people, and what to do about it |

pub mod account;
pub mod api;
pub mod assertion;
pub mod command;
pub mod enrollment;
pub mod enrolment_code;
pub mod event;
pub mod frame;
pub mod hindrance;
pub mod ids;
pub mod jose;
pub mod json;
pub mod limits;
pub mod outcome;
pub mod password;
pub mod problem;
pub mod remedy;
pub mod rotation;
pub mod sealed;
mod subject;
pub mod untrusted;
