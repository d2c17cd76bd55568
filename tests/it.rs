//! Every test from outside the library, in one binary: one link, one Samba domain controller for all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

mod abuse_verdict;
mod active_directory;
mod admin_doc;
mod agent;
mod agree;
mod availability;
mod bad_input;
mod bench;
mod certificates;
mod chaos_checker;
mod cluster;
mod command_line;
mod compatibility;
mod conformance;
mod contract;
mod demo;
mod deploy;
mod documents;
mod gate;
mod guarantees;
mod hangup;
mod house;
mod interop;
mod keys;
mod never_panics;
mod operator;
mod outbound;
mod portal;
mod protocol_doc;
mod readme;
mod security_doc;
mod support;
mod telemetry;
mod tls;
mod vectors;
mod whole_path;
