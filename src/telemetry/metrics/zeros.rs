//! What is seen to be none before there is one: a rate knows the first of its kind only by the zero before it, and a panel
//! shows 0 where nothing has happened.

use opentelemetry::KeyValue;

use super::instruments::Instruments;
use crate::protocol::outcome::{Code, Status};
use crate::protocol::problem::ProblemCode;
use crate::telemetry::limit::Limit;

/// How commands end: by an outcome, or undelivered.
const ENDS: [&str; 5] = ["concluded", "no_agent", "agent_busy", "draining", "expired"];

/// What an outcome's status is called in a metric.
#[must_use]
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Succeeded => "succeeded",
        Status::Rejected => "rejected",
        Status::Failed => "failed",
        Status::Expired => "expired",
        Status::Unknown => "unknown",
    }
}

impl Instruments {
    /// Everything whose labels are known beforehand. With a label for the tenant, what is counted for each is not.
    pub(super) fn begin(&self, tenant_label: bool) {
        self.messages_dropped.add(0, &[]);
        for reason in ["malformed", "signature", "stale", "replayed"] {
            self.messages_refused.add(0, &[KeyValue::new("reason", reason)]);
        }
        for limit in Limit::ALL {
            self.limits.add(0, &[KeyValue::new("limit", limit.as_str())]);
        }
        for result in ["done", "failed", "timeout", "overloaded"] {
            self.tls_handshakes.add(0, &[KeyValue::new("result", result)]);
        }
        self.handshakes.add(0, &[KeyValue::new("result", "accepted")]);
        for code in ProblemCode::ALL {
            self.problems.add(0, &[KeyValue::new("code", code.as_str())]);
            if code.status() >= 500 {
                self.submit_failures.add(0, &[KeyValue::new("code", code.as_str())]);
            }
        }
        if tenant_label {
            return;
        }
        self.sessions.add(0, &[]);
        for state in ["ok", "warning", "failed"] {
            self.preflights.add(0, &[KeyValue::new("state", state)]);
        }
        for result in ["new", "known", "conflict"] {
            self.submits.add(0, &[KeyValue::new("result", result)]);
        }
        for state in ENDS {
            self.ends.add(0, &[KeyValue::new("state", state)]);
        }
        for code in Code::ALL {
            let labels = [KeyValue::new("status", status(code.status())), KeyValue::new("code", code.as_str())];
            self.outcomes.add(0, &labels);
        }
    }
}
