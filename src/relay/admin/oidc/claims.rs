//! What a token has to say (RFC 7519 §4.1, RFC 9068 §4).

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::operator::Operator;
use super::refused::TokenRefused;
use crate::clock::UnixTime;
use crate::relay::config::OidcConfig;

/// How far the clocks of provider and relay may differ.
const LEEWAY: Duration = Duration::from_secs(30);
/// Claims whose text is a list of words (RFC 8693 §4.2; `scp` is what Entra ID calls it).
const WORDS: [&str; 2] = ["scope", "scp"];

/// What a token has to say.
pub(super) struct Wanted {
    pub(super) issuer: String,
    audience: String,
    claim: String,
    value: String,
}

impl Wanted {
    pub(super) fn new(config: &OidcConfig) -> Self {
        let OidcConfig { issuer, audience, claim, value, ca_file: _ } = config.clone();
        Self { issuer, audience, claim, value }
    }

    /// Who it is, by the claims of a token that is verified.
    ///
    /// # Errors
    /// If it is for somebody else, out of its time, or not an operator's.
    pub(super) fn judge(&self, claims: &Map<String, Value>, now: UnixTime) -> Result<Operator, TokenRefused> {
        if claims.get("iss").and_then(Value::as_str) != Some(self.issuer.as_str()) {
            return Err(TokenRefused::Issuer { expected: self.issuer.clone() });
        }
        if !claims.get("aud").is_some_and(|aud| holds(aud, &self.audience)) {
            return Err(TokenRefused::Audience { expected: self.audience.clone() });
        }
        let exp = claims.get("exp").and_then(time).ok_or(TokenRefused::Claim("exp"))?;
        if now >= exp.plus(LEEWAY) {
            return Err(TokenRefused::Expired);
        }
        if let Some(nbf) = claims.get("nbf") {
            let nbf = time(nbf).ok_or(TokenRefused::Claim("nbf"))?;
            if nbf > now.plus(LEEWAY) {
                return Err(TokenRefused::NotYet);
            }
        }
        let subject = claims.get("sub").and_then(Value::as_str).filter(|sub| !sub.is_empty());
        let subject = subject.ok_or(TokenRefused::Claim("sub"))?.to_owned();
        if !self.makes_an_operator(claims) {
            return Err(TokenRefused::NoOperator { claim: self.claim.clone(), value: self.value.clone() });
        }
        Ok(Operator::Subject { subject, issuer: self.issuer.clone() })
    }

    fn makes_an_operator(&self, claims: &Map<String, Value>) -> bool {
        let found = match self.claim.strip_prefix('/') {
            None => claims.get(&self.claim),
            Some(path) => {
                let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
                claims.get(&first.replace("~1", "/").replace("~0", "~")).and_then(|claim| claim.pointer(rest))
            }
        };
        match found {
            Some(Value::String(text)) if WORDS.contains(&self.claim.as_str()) => {
                text.split(' ').any(|word| word == self.value)
            }
            found => found.is_some_and(|found| holds(found, &self.value)),
        }
    }
}

/// Whether a claim is `wanted`, or an array that holds it.
fn holds(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::String(text) => text == wanted,
        Value::Array(all) => all.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    }
}

/// A `NumericDate` (RFC 7519 §2), which may have a fraction.
fn time(claim: &Value) -> Option<UnixTime> {
    let whole = |seconds: f64| seconds.is_finite().then_some(seconds as i64);
    claim.as_i64().or_else(|| claim.as_f64().and_then(whole)).map(UnixTime)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn judged(claim: &str, value: &str, change: Value) -> Result<Operator, TokenRefused> {
        let wanted = Wanted {
            issuer: "https://id.example.com".into(),
            audience: "relay".into(),
            claim: claim.into(),
            value: value.into(),
        };
        let mut claims = json!({
            "iss": "https://id.example.com", "aud": "relay", "sub": "alice", "exp": NOW + 60, "groups": ["a", "ops"],
        });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        wanted.judge(claims.as_object().unwrap(), UnixTime(NOW))
    }

    #[test]
    fn a_claim_makes_an_operator_as_a_text_an_array_or_a_word_of_scope_and_nothing_like_it_does() {
        for (claim, value, claims) in [
            ("groups", "ops", json!({})),
            ("groups", "ops", json!({"groups": "ops"})),
            ("scope", "ops", json!({"scope": "read ops"})),
            ("scp", "ops", json!({"scp": "ops read"})),
            ("scope", "ops", json!({"scope": ["read", "ops"]})),
            ("https://example.com/role", "ops", json!({"https://example.com/role": "ops"})),
            ("/realm_access/roles", "ops", json!({"realm_access": {"roles": ["ops"]}})),
            ("/groups", "ops", json!({})),
            ("/https:~1~1example.com~1a/b", "ops", json!({"https://example.com/a": {"b": "ops"}})),
        ] {
            assert!(judged(claim, value, claims.clone()).is_ok(), "{claim} {claims}");
        }
        for (claim, value, claims) in [
            ("groups", "op", json!({})),
            ("groups", "ops", json!({"groups": "dev ops"})),
            ("groups", "ops", json!({"groups": "OPS"})),
            ("groups", "ops", json!({"groups": ["dev ops", 1, null, ["ops"]]})),
            ("groups", "ops", json!({"groups": {"ops": true}})),
            ("groups", "ops", json!({"groups": null})),
            ("scope", "ops", json!({"scope": "read:ops ops:read"})),
            ("scope", "ops", json!({})),
            ("/realm_access/roles", "ops", json!({"realm_access": "ops"})),
            ("/realm_access/roles", "ops", json!({"/realm_access/roles": "ops"})),
            ("/", "ops", json!({})),
        ] {
            let said = judged(claim, value, claims.clone());
            assert!(matches!(said, Err(TokenRefused::NoOperator { .. })), "{claim} {claims}");
        }
    }

    #[test]
    fn a_token_is_for_this_relay_from_this_issuer_and_in_its_time_give_or_take_half_a_minute() {
        assert_eq!(
            judged("groups", "ops", json!({})),
            Ok(Operator::Subject { subject: "alice".into(), issuer: "https://id.example.com".into() })
        );
        for good in [
            json!({"aud": ["other", "relay"]}),
            json!({"exp": NOW - 29}),
            json!({"exp": 1_000_000.5}),
            json!({"exp": 1e300}),
            json!({"nbf": NOW + 30}),
        ] {
            assert!(judged("groups", "ops", good.clone()).is_ok(), "{good}");
        }
        for (bad, expected) in [
            (
                json!({"iss": "https://id.example.com/"}),
                TokenRefused::Issuer { expected: "https://id.example.com".into() },
            ),
            (json!({"aud": "relay2"}), TokenRefused::Audience { expected: "relay".into() }),
            (json!({"aud": []}), TokenRefused::Audience { expected: "relay".into() }),
            (json!({"aud": null}), TokenRefused::Audience { expected: "relay".into() }),
            (json!({"exp": NOW - 30}), TokenRefused::Expired),
            (json!({"exp": "never"}), TokenRefused::Claim("exp")),
            (json!({"exp": null}), TokenRefused::Claim("exp")),
            (json!({"nbf": NOW + 31}), TokenRefused::NotYet),
            (json!({"nbf": "now"}), TokenRefused::Claim("nbf")),
            (json!({"sub": ""}), TokenRefused::Claim("sub")),
            (json!({"sub": 7}), TokenRefused::Claim("sub")),
        ] {
            assert_eq!(judged("groups", "ops", bad.clone()), Err(expected), "{bad}");
        }
    }
}
