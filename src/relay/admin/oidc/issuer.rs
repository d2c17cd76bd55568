//! The provider is asked for its keys (OpenID Connect Discovery 1.0 §4, RFC 7517 §5): one at a time, and never for long.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

use super::known::Known;
use super::refused::TokenRefused;
use crate::net::NetError;
use crate::net::fetch::{Fetch, is_protected};
use crate::protocol::jose::IssuerKeys;
use crate::protocol::json;

/// Entra ID's keys with their certificates are some 20 KiB.
const MAX_BYTES: usize = 256 * 1024;
/// Each of the two documents. An operator waits behind this.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An OpenID provider.
pub(super) struct Issuer {
    issuer: String,
    fetch: Fetch,
    known: Mutex<Known>,
    /// One asks, and the others wait for what it hears.
    asking: tokio::sync::Mutex<()>,
}

/// What is wanted of its metadata (OpenID Connect Discovery 1.0 §3).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    pub(super) fn new(issuer: String, ca_file: Option<&Path>) -> Result<Self, NetError> {
        let fetch = Fetch::new(ca_file, "OpenID provider", MAX_BYTES, TIMEOUT)?;
        Ok(Self { issuer, fetch, known: Mutex::default(), asking: tokio::sync::Mutex::default() })
    }

    /// Its keys: those that it had within the last quarter of an hour, or if it does not answer, within the last day.
    ///
    /// # Errors
    /// If none are known, and it does not answer.
    pub(super) async fn keys(self: &Arc<Self>) -> Result<Arc<IssuerKeys>, TokenRefused> {
        if self.known.lock().is_due(Instant::now()) {
            self.ask(|known| Ok(known.is_due(Instant::now()))).await?;
        }
        self.known.lock().keys(Instant::now())
    }

    /// Its keys, because one is missing among those that were seen: asked for now, unless that was a moment ago.
    ///
    /// # Errors
    /// If it may not be asked yet, or does not answer.
    pub(super) async fn newer_keys(self: &Arc<Self>, seen: &Arc<IssuerKeys>) -> Result<Arc<IssuerKeys>, TokenRefused> {
        let seen = Arc::clone(seen);
        self.ask(move |known| {
            let now = Instant::now();
            let newer = known.keys(now).is_ok_and(|keys| !Arc::ptr_eq(&keys, &seen));
            if newer { Ok(false) } else { known.may_ask_for_unknown(now).map(|()| true) }
        })
        .await?;
        let (known, now) = (self.known.lock(), Instant::now());
        if known.has_failed() { Err(known.away(now)) } else { known.keys(now) }
    }

    /// Asks, if that is still to be done when nobody else does, and to the end, even if the caller has gone.
    async fn ask(
        self: &Arc<Self>,
        still: impl FnOnce(&mut Known) -> Result<bool, TokenRefused> + Send + 'static,
    ) -> Result<(), TokenRefused> {
        let this = Arc::clone(self);
        let asked = tokio::spawn(async move {
            let _alone = this.asking.lock().await;
            if !still(&mut this.known.lock())? {
                return Ok(());
            }
            let answer = this.fetch().await;
            let mut known = this.known.lock();
            match &answer {
                Ok(_) if known.has_failed() => tracing::info!(issuer = this.issuer, "the issuer answers again"),
                Ok(_) => tracing::debug!(issuer = this.issuer, "the issuer's keys were read"),
                Err(error) => tracing::warn!(
                    issuer = this.issuer,
                    error,
                    "the keys of the operators' issuer can't be had; those that are known are used for a day, and without \
                     any its tokens are answered 503"
                ),
            }
            known.learn(answer, Instant::now());
            Ok(())
        });
        // It ends early only with the process.
        asked.await.unwrap_or(Ok(()))
    }

    async fn fetch(&self) -> Result<IssuerKeys, String> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let document = self.fetch.get(&url).await.map_err(|e| e.to_string())?;
        let metadata: Metadata = json::read_with_nulls(&document)
            .map_err(|_| format!("{url} is no OpenID provider's metadata: issuer and jwks_uri are expected"))?;
        if metadata.issuer != self.issuer {
            return Err(format!(
                "{url} is the metadata of another issuer than {:?}: it has to be written in admin.oidc.issuer as it is \
                 there, letter for letter",
                self.issuer
            ));
        }
        let jwks_uri = metadata.jwks_uri;
        if !jwks_uri.parse::<Uri>().is_ok_and(|uri| is_protected(&uri)) {
            return Err(format!("{url} has a jwks_uri that is not https://"));
        }
        let document = self.fetch.get(&jwks_uri).await.map_err(|e| e.to_string())?;
        IssuerKeys::parse(&document).map_err(|e| format!("{jwks_uri} is no use: {e}"))
    }
}
