//! `portal.toml`: who the portal is, and where its relay is.

use std::path::PathBuf;

use serde::Deserialize;

use crate::protocol::ids::PortalId;

/// `portal.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The portal's id, as registered at the relay.
    pub id: PortalId,
    /// The relay's public URL, byte for byte as the relay knows it: `https://`, no trailing slash.
    pub relay: String,
    /// Certificates of a private CA that is trusted beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// Checks what the types can't; the error names the field.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        const RULE: &str = "relay: the relay's public URL is expected, https://HOST or https://HOST:PORT, without a \
                            trailing slash";
        let url = reqwest::Url::parse(&self.relay).map_err(|_| RULE)?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().or(url.fragment()).is_none();
        if url.scheme() == "https" && plain && !self.relay.ends_with('/') { Ok(()) } else { Err(RULE) }
    }

    pub(super) fn to_toml(&self) -> String {
        // A JSON string is a TOML basic string, and serde_json never fails on one.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut toml = format!("id = {}\nrelay = {}\n", quoted(self.id.as_str()), quoted(&self.relay));
        if let Some(ca) = &self.ca_file {
            toml.push_str(&format!("ca_file = {}\n", quoted(&ca.to_string_lossy())));
        }
        toml
    }
}
