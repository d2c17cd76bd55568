//! The agent: on the company's host, between the relay and the directory.

pub mod config;
pub mod directory;
pub mod events;
pub mod home;
pub mod journal;
