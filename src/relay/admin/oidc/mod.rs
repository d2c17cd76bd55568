//! Operators' credentials by an OpenID provider: access tokens as JWT (RFC 9068), for this relay, with a claim that makes an
//! operator.
//!
//! | module | what |
//! |---|---|
//! | [`claims`] | what a token has to say |
//! | [`issuer`] | the provider is asked for its keys |
//! | [`known`] | which keys are known, and when they are asked for again |
//! | [`refused`] | why a token is not taken |

mod claims;
mod issuer;
mod known;
mod refused;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use self::claims::Wanted;
use self::issuer::Issuer;
use self::refused::TokenRefused;
use super::operator::Operator;
use crate::clock::UnixTime;
use crate::net::NetError;
use crate::protocol::jose::{JoseError, Jws};
use crate::relay::config::OidcConfig;

/// Who an OpenID provider says is an operator.
pub(super) struct Oidc {
    wanted: Wanted,
    issuer: Arc<Issuer>,
}

/// Who claims to have made a token.
#[derive(Deserialize)]
struct Claimed {
    iss: Option<String>,
}

impl Oidc {
    /// Asks the provider for its keys at once, and goes on without an answer.
    ///
    /// # Errors
    /// If the CA file is no use.
    pub(super) fn start(config: &OidcConfig) -> Result<Self, NetError> {
        let issuer = Arc::new(Issuer::new(config.issuer.clone(), config.ca_file.as_deref())?);
        let first = Arc::clone(&issuer);
        // What went wrong is logged there.
        tokio::spawn(async move { first.keys().await.map(drop) });
        Ok(Self { wanted: Wanted::new(config), issuer })
    }

    /// Whose issuer's tokens are taken.
    pub(super) fn issuer(&self) -> &str {
        &self.wanted.issuer
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// If it is not an operator's, or the provider's keys are not known.
    pub(super) async fn operator(&self, token: &str, now: UnixTime) -> Result<Operator, TokenRefused> {
        let token = Jws::access_token(token)?;
        // The provider is not asked for another's keys.
        if token.unverified::<Claimed>()?.iss.as_deref() != Some(self.issuer()) {
            return Err(TokenRefused::Issuer { expected: self.issuer().to_owned() });
        }
        let keys = self.issuer.keys().await?;
        let claims: Map<String, Value> = match keys.verify(&token) {
            Err(JoseError::UnknownKey) => self.issuer.newer_keys(&keys).await?.verify(&token)?,
            verified => verified?,
        };
        self.wanted.judge(&claims, now)
    }
}
