//! Measures a relay beside what people would take in its place, and beside the least that any such server has to do.
//!
//! Servers, and the agents that hang on them, are processes of their own; portals are this one. What lasts on machines that
//! differ, or are busy, is a server's CPU time for one command, as the operating system accounts for it, and ratios within
//! one run; rates don't.

mod agents;
mod callers;
pub mod everything;
mod floor;
mod limits;
mod load;
pub mod measure;
mod nats;
mod population;
mod process;
mod report;
mod stage;
mod subject;
mod wire;

pub use self::agents::hold;
pub use self::floor::serve;
pub use self::report::{Report, Row};
pub use self::subject::Subject;

/// Why something could not be measured, for whoever reads it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What was measured, or why it was not.
pub type Fallible<T> = Result<T, Error>;
