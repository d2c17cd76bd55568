//! What a node says about itself, and where.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use crate::telemetry::log::Format;
use crate::telemetry::otlp::{self, Collector};

/// What a node says about itself, and where.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The base URL of an OpenTelemetry collector that takes OTLP over HTTP. Without it there are no spans, and they cost
    /// nothing.
    pub otlp_endpoint: Option<String>,
    /// Certificates of a private CA that the collector's certificate is from.
    pub otlp_ca_file: Option<PathBuf>,
    /// How a line of the log looks. Text at a terminal, and JSON elsewhere, if absent: whoever runs the node for others
    /// collects it with a program.
    pub log_format: Option<Format>,
    /// Whether metrics say which tenant they are of. Off: a relay may have thousands, and each is a series of its own.
    pub tenant_label: bool,
}

impl TelemetryConfig {
    /// Where spans go.
    #[must_use]
    pub fn collector(&self) -> Collector<'_> {
        Collector { endpoint: self.otlp_endpoint.as_deref(), ca_file: self.otlp_ca_file.as_deref() }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(()) };
        otlp::check(endpoint).map_err(|_| ConfigError::Value {
            field: "telemetry.otlp_endpoint",
            message: "http://HOST:PORT or https://HOST:PORT is expected, without /v1/traces".to_owned(),
        })
    }
}
