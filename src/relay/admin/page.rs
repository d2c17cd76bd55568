//! Long lists in pages: `limit` and `after` ask for one, and `Link` says where the next one is (RFC 8288). Without a limit
//! a list comes as a whole, as older programs expect it.

use std::num::NonZeroUsize;

use axum::http::header::LINK;
use axum::response::{AppendHeaders, IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::relay::http::json::Json;

/// Which part of a list.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Page {
    /// How much of it.
    limit: Option<NonZeroUsize>,
    /// What the page before it ended with.
    after: Option<String>,
}

impl Page {
    /// As many rows as are needed to answer: one more than the page has, so that it is known whether there is another.
    pub(super) fn rows(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit.get().saturating_add(1))
    }

    /// What the page before it ended with.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// This page of a list, at this path and with its query. Each row has a key of its own; they come in its order.
    pub(super) fn answer<T: Serialize>(self, path: &str, rows: Vec<T>, key: impl Fn(&T) -> String) -> Response {
        let mut rows: Vec<_> = rows.into_iter().map(|row| (key(&row), row)).collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        if let Some(after) = &self.after {
            rows.retain(|(key, _)| key > after);
        }
        let limit = self.limit.map_or(usize::MAX, NonZeroUsize::get);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(last, _)| {
            let (separator, after) =
                (if path.contains('?') { '&' } else { '?' }, utf8_percent_encode(last, NON_ALPHANUMERIC));
            (LINK, format!("</admin/v1{path}{separator}limit={limit}&after={after}>; rel=\"next\""))
        });
        let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        (AppendHeaders(next), Json(rows)).into_response()
    }
}
