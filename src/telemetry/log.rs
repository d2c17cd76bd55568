//! The process's log, on standard error. What is logged can be changed while it runs.

use std::io::stderr;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is logged now.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object for each event: for programs.
    #[default]
    Json,
    /// For people.
    Text,
}

/// No format of this name.
#[derive(Debug, thiserror::Error)]
#[error("json or text is expected")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(UnknownFormat),
        }
    }
}

/// Why what is logged can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Not a filter.
    #[error(
        "error, warn, info or debug is expected, or directives like info,writeback_relay::relay::session=debug ({0})"
    )]
    Malformed(String),
    /// Everything.
    #[error("trace is not taken: libraries then log what they read from sockets, and secrets are in it; use debug")]
    Trace,
    /// There is no log, or it is another one.
    #[error("this process's log can't be changed: {0}")]
    Fixed(String),
}

/// Logs to standard error. `filter` is that of `RUST_LOG`, which overrides it.
pub fn start(filter: &str, format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let (filter, handle) = reload::Layer::new(filter);
    let json = (format == Format::Json).then(|| fmt::layer().json().flatten_event(true).with_writer(stderr));
    let text = (format == Format::Text).then(|| fmt::layer().with_ansi(false).with_writer(stderr));
    // A second call (two services in one process) changes nothing.
    if tracing_subscriber::registry().with(filter).with(json).with(text).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// What is logged, as directives.
///
/// # Errors
/// If there is no log.
pub fn filter() -> Result<String, FilterError> {
    let none = || FilterError::Fixed("it has none".to_owned());
    let filter = FILTER.get().ok_or_else(none)?.with_current(ToString::to_string);
    filter.map_err(|e| FilterError::Fixed(e.to_string()))
}

/// From now on this is logged.
///
/// # Errors
/// If it is no filter, would log everything, or there is no log.
pub fn set_filter(directives: &str) -> Result<(), FilterError> {
    let handle = FILTER.get().ok_or_else(|| FilterError::Fixed("it has none".to_owned()))?;
    handle.reload(parse(directives)?).map_err(|e| FilterError::Fixed(e.to_string()))
}

fn parse(directives: &str) -> Result<EnvFilter, FilterError> {
    if directives.trim().is_empty() {
        return Err(FilterError::Malformed("nothing is given".to_owned()));
    }
    // A target alone means all of it, too.
    let all = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default().trim().to_ascii_lowercase();
        !["off", "error", "warn", "info", "debug", "0", "1", "2", "3", "4"].contains(&level.as_str())
    };
    let filter = EnvFilter::try_new(directives).map_err(|e| FilterError::Malformed(e.to_string()))?;
    match directives.split(',').find(|directive| all(directive)) {
        None => Ok(filter),
        Some(directive) if directive.to_ascii_lowercase().contains("trace") || directive.contains("=5") => {
            Err(FilterError::Trace)
        }
        Some(directive) => Err(FilterError::Malformed(format!("{directive:?} names no level"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_taken_and_trace_is_not() {
        for good in ["debug", "INFO", "warn,audit=info", "off", "info,writeback_relay::relay=debug"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "loud", "writeback_relay", "info,hyper", "a=b=c", "info,"] {
            assert!(matches!(parse(bad), Err(FilterError::Malformed(_))), "{bad:?}");
        }
        for all in ["trace", "TRACE", "info,tungstenite=trace", "5", "info,rustls=5"] {
            assert!(matches!(parse(all), Err(FilterError::Trace | FilterError::Malformed(_))), "{all}");
        }
    }
}
