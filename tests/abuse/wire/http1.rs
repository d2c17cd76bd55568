//! HTTP/1.1 by hand.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Tls;

/// A request with `Content-Length`. `headers` are whole lines.
pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nhost: relay\r\n{headers}{length}\r\n{body}").into_bytes()
}

/// A connection that is kept.
pub(crate) struct Http1 {
    stream: Tls,
    read: Vec<u8>,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// What it says, as an error: the status, and the problem's code.
    pub(crate) fn error(&self) -> io::Error {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        io::Error::other(format!("{} {}", self.status, problem["code"]))
    }
}

impl Http1 {
    pub(crate) fn new(stream: Tls) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> io::Result<Answer> {
        let head = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let text = String::from_utf8_lossy(&self.read[..head]).to_ascii_lowercase();
        let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("no answer of HTTP/1.1: {text}"));
        let status = text.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(Ok(0), |length| length.trim().parse()).map_err(|_| broken())?;
        while self.read.len() < head + length {
            self.more().await?;
        }
        let body = self.read[head..head + length].to_vec();
        self.read.drain(..head + length);
        Ok(Answer { status, body })
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// The connection, and what was read beyond the last answer.
    pub(crate) fn into_parts(self) -> (Tls, Vec<u8>) {
        (self.stream, self.read)
    }
}
