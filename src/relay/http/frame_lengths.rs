//! A WebSocket's incoming bytes, which are refused where a frame's length is not written in the one way that RFC 6455 §5.2
//! allows. The library above takes any.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest header: two bytes, eight of length, four of masking key.
const MAX_HEADER: usize = 14;
/// A control frame's payload is no longer (RFC 6455 §5.5).
const MAX_CONTROL: u64 = 125;

/// Reads through, and looks at the frames' headers.
pub(super) struct FrameLengths<S> {
    stream: S,
    headers: Headers,
}

/// Where in a frame the bytes are.
#[derive(Default)]
struct Headers {
    header: [u8; MAX_HEADER],
    have: usize,
    /// How much of the payload is to come.
    payload: u64,
}

impl<S> FrameLengths<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, headers: Headers::default() }
    }

    /// The bytes as they are, when nobody looks at frames any more.
    pub(super) fn unseen(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl Headers {
    /// Looks at what has come; false if a length in it is not to be.
    fn see(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            self.payload -= skipped as u64;
            let Some((next, rest)) = bytes.get(skipped..).and_then(<[u8]>::split_first) else { return true };
            bytes = rest;
            if let Some(byte) = self.header.get_mut(self.have) {
                *byte = *next;
                self.have += 1;
            }
            match self.payload_of_header() {
                Ok(None) => {}
                Ok(Some(payload)) => (self.payload, self.have) = (payload, 0),
                Err(NotMinimal) => return false,
            }
        }
    }

    /// How long the payload is that follows, if the header is complete.
    fn payload_of_header(&self) -> Result<Option<u64>, NotMinimal> {
        let [first, second, extended @ ..] = &self.header;
        if self.have < 2 {
            return Ok(None);
        }
        let (is_control, masked, short) = (first & 0x08 != 0, second & 0x80 != 0, u64::from(second & 0x7f));
        let bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if is_control && short > MAX_CONTROL {
            return Err(NotMinimal);
        }
        if self.have < 2 + bytes {
            return Ok(None);
        }
        let long = extended.iter().take(bytes).fold(0, |length: u64, byte| length << 8 | u64::from(*byte));
        let length = match bytes {
            2 if long > 125 => long,
            8 if long > u64::from(u16::MAX) && long >> 63 == 0 => long,
            0 => short,
            _ => return Err(NotMinimal),
        };
        let complete = self.have == 2 + bytes + if masked { 4 } else { 0 };
        Ok(complete.then_some(length))
    }
}

/// A length that is not written as it has to be.
struct NotMinimal;

impl<S: AsyncRead + Unpin> AsyncRead for FrameLengths<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(if self.headers.see(new) {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a frame's length is not written as it has to be"))
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameLengths<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: &[u8], payload: usize) -> Vec<u8> {
        [&[first][..], length, &[1, 2, 3, 4], &vec![0xff; payload]].concat()
    }

    #[test]
    fn lengths_are_taken_as_short_as_they_can_be_wherever_the_bytes_are_cut() {
        let good = [
            frame(0x82, &[0x80], 0),
            frame(0x82, &[0x80 | 125], 125),
            frame(0x82, &[0x80 | 126, 0, 126], 126),
            frame(0x89, &[0x80 | 3], 3),
            frame(0x82, &[0x80 | 126, 0xff, 0xff], 0xffff),
            frame(0x82, &[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0], 0x10000),
            [&[0x82, 2][..], &[9, 9]].concat(),
        ]
        .concat();
        for step in [1, 2, 3, 7, 4096, good.len()] {
            let mut headers = Headers::default();
            assert!(good.chunks(step).all(|bytes| headers.see(bytes)), "{step}");
            assert!(headers.have == 0 && headers.payload == 0);
        }
        for bad in [
            frame(0x82, &[0x80 | 126, 0, 125], 125),
            frame(0x82, &[0x80 | 126, 0, 0], 0),
            frame(0x82, &[0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 0xffff),
            frame(0x82, &[0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0], 0),
            frame(0x89, &[0x80 | 126, 0, 126], 126),
        ] {
            let mut headers = Headers::default();
            assert!(!headers.see(&[frame(0x82, &[0x80 | 1], 1), bad.clone()].concat()), "{:?}", &bad[..8]);
        }
    }
}
