//! The agent: on the company's host, between the relay and the directory.
//!
//! | module | what |
//! |---|---|
//! | [`home`], [`config`], [`options`] | the agent's folder, and what people decide |
//! | [`enroll()`] | how the agent comes in |
//! | `executor`, `execution`, `answer`, `lanes` | commands in, each executed once, answers out |
//! | [`journal`], `recovery` | what survives a crash, and what is found out after one |
//! | [`directory`] | where passwords are written |
//! | `service`, `reconnect`, `connection`, `session` | the running agent and its session with the relay |
//! | [`events`], `preflight` | what people are told |

mod answer;
mod backoff;
pub mod config;
mod connection;
pub mod directory;
mod enroll;
mod error;
pub mod events;
mod execution;
mod executor;
pub mod home;
pub mod journal;
mod lanes;
pub mod options;
mod preflight;
mod reconnect;
mod recovery;
mod service;
mod session;
mod status;
#[cfg(test)]
mod testing;

pub use enroll::{EnrollError, Enrolment, enroll};
pub use error::AgentError;
pub use options::Options;
pub use service::Agent;
pub use status::status;
