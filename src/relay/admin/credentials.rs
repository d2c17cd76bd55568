//! What operators are known by: a static token, access tokens of an OpenID provider, or both. A token with two dots is a JWT.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::Ops;
use super::oidc::Oidc;
use super::operator::Operator;
use super::token::{AdminToken, is_like_a_jwt};
use crate::audit;
use crate::clock::{Random, UnixTime};
use crate::net::NetError;
use crate::protocol::problem::ProblemCode;
use crate::relay::config::AdminConfig;
use crate::relay::http::caller::bearer;
use crate::relay::http::exchange::Exchange;
use crate::relay::http::problem::Refusal;
use crate::storage::FileError;

/// Why operators can't be known.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The static token.
    #[error(transparent)]
    Token(#[from] FileError),
    /// The provider can't be asked, ever.
    #[error("admin.oidc.ca_file: {0}")]
    Issuer(#[from] NetError),
}

/// What operators are known by.
pub struct Credentials {
    token: Option<AdminToken>,
    oidc: Option<Oidc>,
}

impl Credentials {
    /// Reads the static token, or makes one, and asks the provider for its keys, without waiting for it.
    ///
    /// # Errors
    /// If a file is no use.
    pub fn open(config: &AdminConfig, token_file: &Path, random: &dyn Random) -> Result<Self, CredentialError> {
        let token = config
            .static_token
            .then(|| AdminToken::open(token_file, config.token_file.is_none(), config.oidc.is_some(), random));
        Ok(Self { token: token.transpose()?, oidc: config.oidc.as_ref().map(Oidc::start).transpose()? })
    }

    async fn operator(&self, token: &str, now: UnixTime) -> Result<Operator, Refusal> {
        let invalid = |detail: String| Err(Refusal::new(ProblemCode::InvalidToken, detail));
        match (&self.oidc, &self.token) {
            (Some(oidc), _) if is_like_a_jwt(token) => Ok(oidc.operator(token, now).await?),
            (_, Some(own)) if own.is(token) => Ok(Operator::StaticToken),
            (Some(oidc), Some(_)) => {
                invalid(format!("this is not the admin token, and no JWT of {} either", oidc.issuer()))
            }
            (Some(oidc), None) => invalid(format!("this is no JWT, and only those of {} are taken", oidc.issuer())),
            (None, _) => invalid("this is not the admin token".to_owned()),
        }
    }
}

/// Lets only operators through. What they do is logged with who they are.
pub(super) async fn require(State(ops): State<Ops>, request: Request, next: Next) -> Result<Response, Refusal> {
    let now = ops.public.services.clock.now();
    let (parts, body) = request.into_parts();
    let exchange = parts.extensions.get::<Arc<Exchange>>();
    let address = exchange.map(|exchange| exchange.who().to_string());
    let known = match bearer(&parts.headers) {
        Some(token) => ops.credentials.operator(token, now).await,
        None => Err(Refusal::new(
            ProblemCode::TokenMissing,
            "an Authorization header with \"Bearer\" and the operator's token is expected",
        )),
    };
    match known {
        Ok(operator) => {
            let span = operator.span();
            Ok(next.run(Request::from_parts(parts, body)).instrument(span).await)
        }
        Err(refusal) => {
            // Whoever guesses here has come past everything before this listener.
            audit!(
                "operator_refused",
                reason = refusal.reason.unwrap_or(refusal.code.as_str()),
                client.address = address
            );
            Err(refusal)
        }
    }
}
