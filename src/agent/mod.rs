//! The agent: on the company's host, between the relay and the directory.
//!
//! | module | what |
//! |---|---|
//! | [`home`], [`format`](mod@format), [`config`], [`options`] | the agent's folder, and what people decide |
//! | [`enroll()`], [`trust()`] | how the agent comes in, and whose commands it takes |
//! | [`keyring`], [`rotate_keys`], `key_care` | its keys, and how they change |
//! | [`portals`] | the portals' pinned keys, and how they change |
//! | `execution` | commands in, each executed once, answers out; what is found out after a crash |
//! | [`journal`] | what survives one |
//! | [`setup`] | from nothing to an agent that works |
//! | [`directory`] | where passwords are written |
//! | `service`, `instance`, `link` | the running agent, and its session with the relay |
//! | [`events`], [`preflight`] | what people are told |
//! | [`control`] | what other programs of this host ask it |

mod backoff;
pub mod config;
pub mod control;
mod counted;
pub mod directory;
mod distrusted;
mod enroll;
mod error;
pub mod events;
mod execution;
pub mod format;
pub mod home;
mod instance;
pub mod journal;
mod key_care;
pub mod keyring;
mod link;
pub mod options;
mod pin;
pub mod portals;
mod post;
pub mod preflight;
mod rotation;
mod service;
pub mod setup;
mod started;
mod status;
mod support;
#[cfg(test)]
mod testing;
mod trust;
mod watched;

pub use control::have_checked;
pub use counted::counted;
pub use enroll::{EnrollError, Enrolment, enroll};
pub use error::AgentError;
pub use options::Options;
pub use pin::Pin;
pub use rotation::{RotatedKeys, RotationError, rotate_keys};
pub use service::Agent;
pub use status::status;
pub use support::support_bundle;
pub use trust::{TrustError, Trusted, TrustedPortal, distrust, trust, trusted, trusted_list};
