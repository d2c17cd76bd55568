//! The agent: on the company's host, between the relay and the directory.
//!
//! | module | what |
//! |---|---|
//! | [`home`], [`config`], [`options`] | the agent's folder, and what people decide |
//! | [`enroll()`] | how the agent comes in |
//! | `execution` | commands in, each executed once, answers out; what is found out after a crash |
//! | [`journal`] | what survives one |
//! | [`setup`] | from nothing to an agent that works |
//! | [`directory`] | where passwords are written |
//! | `service`, `instance`, `link` | the running agent, and its session with the relay |
//! | [`events`], [`preflight`] | what people are told |

mod backoff;
pub mod config;
pub mod directory;
mod enroll;
mod error;
pub mod events;
mod execution;
pub mod home;
mod instance;
pub mod journal;
mod link;
pub mod options;
pub mod preflight;
mod service;
pub mod setup;
mod status;
mod support;
#[cfg(test)]
mod testing;

pub use enroll::{EnrollError, Enrolment, enroll};
pub use error::AgentError;
pub use options::Options;
pub use service::Agent;
pub use status::status;
pub use support::support_bundle;
