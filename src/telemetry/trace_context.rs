//! W3C Trace Context: one trace id from the portal's request to the agent's event log.

use std::fmt;
use std::str::FromStr;

use crate::clock::Random;

/// The `traceparent` header, version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub(super) trace_id: u128,
    pub(super) parent_id: u64,
    pub(super) flags: u8,
}

/// Not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent header of W3C Trace Context")]
pub struct InvalidTraceparent;

impl TraceContext {
    /// A new trace.
    #[must_use]
    pub fn start(random: &dyn Random) -> Self {
        let (mut trace_id, mut parent_id) = ([0; 16], [0; 8]);
        random.fill(&mut trace_id);
        random.fill(&mut parent_id);
        // All zeros is not allowed.
        Self {
            trace_id: u128::from_be_bytes(trace_id).max(1),
            parent_id: u64::from_be_bytes(parent_id).max(1),
            flags: 1,
        }
    }

    /// The caller's trace if it sent one, else a new one.
    #[must_use]
    pub fn from_header(header: Option<&str>, random: &dyn Random) -> Self {
        header.and_then(|text| text.parse().ok()).unwrap_or_else(|| Self::start(random))
    }

    /// 32 hexadecimal digits: the support code.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        let lowercase_hex = text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace_id, parent_id, flags] = parts[..] else { return Err(InvalidTraceparent) };
        if !lowercase_hex || (version.len(), trace_id.len(), parent_id.len(), flags.len()) != (2, 32, 16, 2) {
            return Err(InvalidTraceparent);
        }
        let context = Self {
            trace_id: u128::from_str_radix(trace_id, 16).map_err(|_| InvalidTraceparent)?,
            parent_id: u64::from_str_radix(parent_id, 16).map_err(|_| InvalidTraceparent)?,
            flags: u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceparent)?,
        };
        if version != "00" || context.trace_id == 0 || context.parent_id == 0 {
            return Err(InvalidTraceparent);
        }
        Ok(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    #[test]
    fn a_callers_trace_is_kept_and_nonsense_starts_a_new_one() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceContext::from_header(Some(header), &System).to_string(), header);
        for bad in [
            "",
            "00-0-0-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(InvalidTraceparent), "{bad:?}");
            let started = TraceContext::from_header(Some(bad), &System).to_string();
            assert!(started.parse::<TraceContext>().is_ok(), "{started}");
        }
    }
}
