//! The agent: on the company's host, between the relay and the directory.

pub mod directory;
