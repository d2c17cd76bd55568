//! Settings that are one text or a list of them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D, expected: &str) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrMany::deserialize(deserializer).map_err(|_| D::Error::custom(expected))? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

pub(super) fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    one_or_many(deserializer, "url is one URL or a list of URLs")
}

pub(super) fn base_dns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    one_or_many(deserializer, "base_dn is one distinguished name or a list of them")
}
