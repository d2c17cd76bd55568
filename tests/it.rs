//! Every test from outside the library, in one binary: one link, one Samba domain controller for all.

mod interop;
mod never_panics;
mod portal;
mod protocol_doc;
mod vectors;
