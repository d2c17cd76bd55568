//! Every test from outside the library, in one binary: one link, one Samba domain controller for all.

mod active_directory;
mod agent;
mod bad_input;
mod contract;
mod house;
mod interop;
mod never_panics;
mod portal;
mod support;
mod vectors;
