//! An agent's session by hand (RFC 6455): frames that no library would write.

use std::io;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use writeback_relay::clock::System;
use writeback_relay::protocol::frame::{FromAgent, FromRelay, SUBPROTOCOL};
use writeback_relay::protocol::ids::InstanceId;

use super::http1::{Http1, request};
use super::{Dialer, Tls};
use crate::support::raw_agent::RawAgent;

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const BINARY: u8 = 2;
pub(crate) const PING: u8 = 9;

/// One frame; `first` is its first byte.
pub(crate) fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(mask | u8::try_from(length).unwrap()),
        length => {
            frame.push(mask | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    if masked {
        // A mask of zeros changes nothing.
        frame.extend([0; 4]);
    }
    frame.extend(payload);
    frame
}

/// An agent's frame, as it stands on the wire.
pub(crate) fn message(said: FromAgent) -> Vec<u8> {
    frame(FIN | BINARY, true, &said.encode_frame())
}

/// A WebSocket.
pub(crate) struct WebSocket {
    stream: Tls,
    read: Vec<u8>,
}

impl WebSocket {
    /// The upgrade, by this agent. Any other answer is an error.
    pub(crate) async fn upgrade(dialer: &Dialer, agent: &RawAgent) -> io::Result<Self> {
        Self::upgrade_over(dialer.http1().await?, agent).await
    }

    async fn upgrade_over(stream: Tls, agent: &RawAgent) -> io::Result<Self> {
        let bearer = agent.assertion().sign(&agent.signing).unwrap();
        let headers = [
            &format!("authorization: Bearer {bearer}"),
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            &format!("sec-websocket-protocol: {SUBPROTOCOL}"),
        ];
        let mut http = Http1::new(stream);
        let answer = http.ask(&request("GET", "/v1/agent/session", &headers, "")).await?;
        if answer.status != 101 {
            return Err(answer.error());
        }
        let (stream, read) = http.into_parts();
        Ok(Self { stream, read })
    }

    /// A session that the node has welcomed.
    pub(crate) async fn session(dialer: &Dialer, agent: &RawAgent, instance: InstanceId) -> io::Result<Self> {
        Self::upgrade(dialer, agent).await?.welcomed(agent, instance).await
    }

    /// The same, by an agent that lets next to nothing wait to be read.
    pub(crate) async fn narrow_session(dialer: &Dialer, agent: &RawAgent) -> io::Result<Self> {
        let socket = Self::upgrade_over(dialer.http1_narrow().await?, agent).await?;
        socket.welcomed(agent, InstanceId::new(&System, &System)).await
    }

    async fn welcomed(self, agent: &RawAgent, instance: InstanceId) -> io::Result<Self> {
        let mut socket = self;
        socket.send(&message(agent.hello(instance))).await?;
        match socket.next().await? {
            FromRelay::Welcome(_) => Ok(socket),
            other => Err(io::Error::other(format!("no welcome: {other:?}"))),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The relay's next frame.
    pub(crate) async fn next(&mut self) -> io::Result<FromRelay> {
        loop {
            let (first, payload) = self.next_frame().await?;
            match first {
                0x82 => return FromRelay::decode(&payload).map_err(io::Error::other),
                0x88 => return Err(io::Error::other(format!("closed: {}", String::from_utf8_lossy(&payload[2..])))),
                _ => {}
            }
        }
    }

    async fn next_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        self.have(2).await?;
        let (start, length) = match self.read[1] {
            126 => {
                self.have(4).await?;
                (4, usize::from(u16::from_be_bytes([self.read[2], self.read[3]])))
            }
            length @ ..126 => (2, usize::from(length)),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        self.have(start + length).await?;
        let (first, payload) = (self.read[0], self.read[start..start + length].to_vec());
        self.read.drain(..start + length);
        Ok((first, payload))
    }

    async fn have(&mut self, length: usize) -> io::Result<()> {
        while self.read.len() < length {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Throws away what has come, without waiting for more; an error if the node has ended it.
    pub(crate) fn discard_what_came(&mut self) -> io::Result<()> {
        self.read.clear();
        match self.stream.read_buf(&mut self.read).now_or_never() {
            Some(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Reads, and throws it away, until the node ends it.
    pub(crate) async fn drain(&mut self) -> io::Result<()> {
        loop {
            self.read.clear();
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(());
            }
        }
    }
}
