//! Until when a write may begin.

use std::sync::Arc;

use super::DirectoryError;
use crate::clock::{Clock, UnixTime};

/// Until when a write may begin, by the agent's clock and without leeway. It is a question and not a timer: whoever
/// writes asks it directly before, when nothing is left to wait for.
#[derive(Clone)]
pub struct Deadline {
    exp: UnixTime,
    clock: Arc<dyn Clock>,
}

impl Deadline {
    /// At `exp` it is over.
    #[must_use]
    pub fn new(exp: UnixTime, clock: Arc<dyn Clock>) -> Self {
        Self { exp, clock }
    }

    /// Whether a write may begin now.
    ///
    /// # Errors
    /// [`DirectoryError::Expired`] at `exp` and after it.
    pub fn allows(&self) -> Result<(), DirectoryError> {
        if self.clock.now() < self.exp { Ok(()) } else { Err(DirectoryError::Expired) }
    }
}
