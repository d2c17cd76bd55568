//! HTTP/2 by hand (RFC 9113): frames that no library would write.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::{Dialer, Tls};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const NOTHING: u8 = 0;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// As many as the node takes at a time.
pub(crate) const STREAMS: u32 = 128;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The id of a client's nth stream.
pub(crate) fn stream(n: u32) -> u32 {
    1 + 2 * n
}

/// HPACK (RFC 7541 §5.1): an integer behind a prefix of 7 bits.
fn integer(mut value: usize) -> Vec<u8> {
    let byte = |value: usize| u8::try_from(value).unwrap();
    if value < 127 {
        return vec![byte(value)];
    }
    let mut bytes = vec![127];
    value -= 127;
    while value >= 128 {
        bytes.push(byte(value % 128) | 128);
        value /= 128;
    }
    bytes.push(byte(value));
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&integer(text.len())[..], text.as_bytes()].concat()
}

/// HPACK: one field, from now on in the table too if `indexed`.
pub(crate) fn field(indexed: bool, name: &str, value: &str) -> Vec<u8> {
    [vec![if indexed { 0x40 } else { 0 }], text(name), text(value)].concat()
}

/// A request's head, as short as HPACK makes it.
pub(crate) fn head(method: Method, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    const HTTPS: u8 = 0x87;
    const PATH: u8 = 4;
    const AUTHORITY: u8 = 1;
    let mut head = [vec![method as u8, HTTPS, PATH], text(path), vec![AUTHORITY], text("r")].concat();
    head.extend(more.iter().flat_map(|(name, value)| field(false, name, value)));
    head
}

/// What is asked, as HPACK's static table has it.
#[derive(Clone, Copy)]
pub(crate) enum Method {
    Get = 0x82,
    Post = 0x83,
}

/// A connection, in halves: attackers write and read at their own times.
pub(crate) struct Http2 {
    pub(crate) writing: WriteHalf<Tls>,
    pub(crate) reading: ReadHalf<Tls>,
}

impl Http2 {
    /// Opened as every client does, with these settings.
    pub(crate) async fn open(dialer: &Dialer, settings: &[(u16, u32)]) -> io::Result<Self> {
        let (reading, mut writing) = split(dialer.http2().await?);
        let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let payload = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        opening.extend(frame(SETTINGS, NOTHING, 0, &payload.collect::<Vec<_>>()));
        opening.extend(frame(SETTINGS, ACK, 0, &[]));
        writing.write_all(&opening).await?;
        Ok(Self { writing, reading })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writing.write_all(bytes).await
    }

    /// Keeps it, answering whatever keeps it alive, until the node ends it.
    pub(crate) async fn keep(mut self) -> io::Result<()> {
        loop {
            let mut head = [0; 9];
            self.reading.read_exact(&mut head).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.reading.read_exact(&mut payload).await?;
            if head[3] == PING && head[4] & ACK == 0 {
                self.writing.write_all(&frame(PING, ACK, 0, &payload)).await?;
            }
        }
    }
}

/// Reads what comes and throws it away, until the node ends the connection.
pub(crate) async fn drain(mut reading: ReadHalf<Tls>) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    while reading.read(&mut buffer).await? > 0 {}
    Ok(())
}
