//! Every test from outside the library, in one binary: one link, one Samba domain controller for all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test fails by panicking, and nobody uses it from outside"
)]

mod agent;
mod support;
