//! Every test from outside the library, in one binary: one link, one Samba domain controller for all.

mod agent;
mod support;
