//! The process's log, on standard error. What is logged can be changed while it runs.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write, stderr};
use std::str::FromStr;
use std::sync::OnceLock;

use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::protocol::untrusted::one_line;

/// What is logged now.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object for each event: for programs.
    Json,
    /// For people.
    Text,
}

impl Format {
    /// What whoever reads standard error can use: people at a terminal, and programs everywhere else.
    #[must_use]
    pub fn of_stderr() -> Self {
        if stderr().is_terminal() { Self::Text } else { Self::Json }
    }
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

/// Where events are written: each as one line, in which everything is spelt out that would do more on a terminal than be
/// read, or begin another line. Whatever an event's values are made of, this is the last line of defence.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    /// An event is written as a whole. A log that can't be written (its terminal was closed, its reader has ended, its disk is
    /// full) must not stop what it is about: to say so to the same place, as the library would, ends the task that logs.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // The lossy reader looks at each byte, the strict one at many.
        let text = std::str::from_utf8(event).map_or_else(|_| String::from_utf8_lossy(event), Cow::Borrowed);
        let line = one_line(text.strip_suffix('\n').unwrap_or(&text));
        let _ = self.0.write_all(format!("{line}\n").as_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Logs to standard error. `filter` is that of `RUST_LOG`, which overrides it. Without a `format` it is that of whoever reads
/// there.
pub fn start(filter: &str, format: Option<Format>) {
    let format = format.unwrap_or_else(Format::of_stderr);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let (filter, handle) = reload::Layer::new(filter);
    let json =
        (format == Format::Json).then(|| fmt::layer().json().flatten_event(true).with_writer(|| Lines(stderr())));
    let text = (format == Format::Text).then(|| fmt::layer().with_ansi(false).with_writer(|| Lines(stderr())));
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
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Its `Debug` and its `Display` are what somebody else wrote.
    struct Raw(&'static str);

    impl std::fmt::Debug for Raw {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_its_values_and_its_message_hold() {
        const HOSTILE: &str = "a\x1b[2J\x07\r\nINFO forged\u{9b}31m\u{202e}\u{200b}\u{feff}\u{2028}\u{e0041}z";
        for format in [Format::Json, Format::Text] {
            let kept = Kept::default();
            let writer = kept.clone();
            let writer = move || Lines(writer.clone());
            let json =
                (format == Format::Json).then(|| fmt::layer().json().flatten_event(true).with_writer(writer.clone()));
            let text = (format == Format::Text).then(|| fmt::layer().with_ansi(false).with_writer(writer));
            tracing::subscriber::with_default(tracing_subscriber::registry().with(json).with(text), || {
                tracing::info!(text = HOSTILE, debug = ?Raw(HOSTILE), shown = %format_args!("{HOSTILE}"), "{HOSTILE}");
                tracing::info!("the next");
            });
            let written = String::from_utf8(kept.0.lock().clone()).unwrap();
            let lines: Vec<_> = written.lines().collect();
            assert_eq!(lines.len(), 2, "{written:?}");
            assert!(lines.iter().all(|line| line.chars().all(|c| matches!(c, ' '..='~'))), "{written:?}");
            assert!(lines[0].matches("202e").count() == 4 && lines[1].contains("the next"), "{written:?}");
            if format == Format::Json {
                let event: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
                for field in ["text", "debug", "shown", "message"] {
                    assert!(event[field].as_str().unwrap().contains("\u{202e}\u{200b}"), "{field}: {event}");
                }
            }
        }
    }

    /// What nobody reads any more.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_is_no_error() {
        let event = b"an event\n";
        assert_eq!(Lines(Closed).write(event).unwrap(), event.len());
        assert!(Lines(Closed).flush().is_ok());
    }

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
