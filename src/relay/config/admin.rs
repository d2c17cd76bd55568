//! Who may operate a node.

use std::path::PathBuf;

use http::Uri;
use serde::Deserialize;

use super::ConfigError;
use crate::net::fetch::is_protected;

/// Who may operate a node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Whether the token in `data_dir` is taken. It is nobody's in particular; with `oidc` it can be done without.
    pub static_token: bool,
    /// A file that has the static token, where the node is to make none in `data_dir`.
    pub token_file: Option<PathBuf>,
    /// An OpenID provider whose access tokens are taken.
    pub oidc: Option<OidcConfig>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        // An installation that nobody can operate is of no use.
        Self { static_token: true, token_file: None, oidc: None }
    }
}

/// An OpenID provider, and whom of those that it knows it lets operate the node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The provider's issuer, letter for letter as it writes it itself. Its metadata is asked for below it (OpenID Connect
    /// Discovery 1.0 §4).
    pub issuer: String,
    /// Who a token has to be for: this is, or is one of, its `aud`.
    pub audience: String,
    /// The claim that makes an operator: its name, or with a slash in front where it is (RFC 6901).
    pub claim: String,
    /// What the claim has to be, or to hold: as one of an array's strings, or in `scope` one of its words.
    pub value: String,
    /// A file with the private CA of the provider's certificate, trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
}

impl AdminConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.token_file.is_some() && !self.static_token {
            return Err(wrong("admin.token_file", "its token is not taken, because admin.static_token is false"));
        }
        match &self.oidc {
            Some(oidc) => oidc.check(),
            None if self.static_token => Ok(()),
            None => Err(wrong(
                "admin.static_token",
                "false needs an [admin.oidc] section: nobody could operate the node without either",
            )),
        }
    }
}

impl OidcConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let issuer = self.issuer.parse::<Uri>().ok();
        // The type drops a fragment.
        let plain = |url: &Uri| is_protected(url) && url.query().is_none() && !self.issuer.contains('#');
        if !issuer.as_ref().is_some_and(plain) {
            return Err(wrong(
                "admin.oidc.issuer",
                "https://HOST or https://HOST/PATH is expected, as the provider writes it itself (http:// only to this \
                 host), without ? and #",
            ));
        }
        for (field, given, message) in [
            ("admin.oidc.audience", &self.audience, "what tokens for this relay have as aud is expected"),
            ("admin.oidc.claim", &self.claim, "the name of the claim that makes an operator is expected"),
            ("admin.oidc.value", &self.value, "what the claim of an operator has to be is expected"),
        ] {
            if given.trim().is_empty() {
                return Err(wrong(field, message));
            }
        }
        Ok(())
    }
}

fn wrong(field: &'static str, message: &str) -> ConfigError {
    ConfigError::Value { field, message: message.to_owned() }
}
