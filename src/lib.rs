//! Carries a password reset from a cloud portal to an on-premises Active Directory, and a truthful answer back.
//!
//! Three apartments on one stair: [`relay`], [`agent`] and [`portal`] stand on [`protocol`] and never import each other.
//!
//! | floor | what |
//! |---|---|
//! | [`clock`] | time and randomness, as parameters |
//! | [`protocol`] | the objects on the wire, pure |
//! | [`storage`], [`net`], [`host`], [`telemetry`] | files that survive, outbound HTTPS, the operating system, logs |
//! | [`relay`], [`agent`], [`portal`] | the three programs |
//! | [`demo`], [`bench`] | all three in one process; what they cost |

pub mod agent;
pub mod bench;
pub mod clock;
pub mod demo;
pub mod host;
pub mod net;
pub mod portal;
pub mod protocol;
pub mod relay;
pub mod storage;
pub mod telemetry;
