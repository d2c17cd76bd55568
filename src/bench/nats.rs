//! As much of the NATS client protocol as a request and its reply need, over a WebSocket.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::Fallible;
use super::wire::{Dialer, Socket};

/// A connection to nats-server.
pub(super) struct Nats {
    socket: Socket,
    /// What has come and was not read.
    come: Vec<u8>,
}

/// A message that was published.
pub(super) struct Published {
    /// Where an answer is expected.
    pub(super) reply: Option<String>,
    pub(super) payload: Vec<u8>,
}

impl Nats {
    /// The `number`th connection.
    pub(super) async fn open(dialer: &Dialer, number: usize) -> Fallible<Self> {
        let mut nats = Self { socket: dialer.websocket(number, "/", vec![]).await?, come: Vec::new() };
        let info = nats.line().await?;
        if !info.starts_with("INFO ") {
            return Err(format!("no nats-server: {info}").into());
        }
        nats.send(
            b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\nPING\r\n",
        )
        .await?;
        nats.pong().await?;
        Ok(nats)
    }

    /// What is published under `subject` comes here from now on.
    pub(super) async fn subscribe(&mut self, subject: &str) -> Fallible<()> {
        self.send(format!("SUB {subject} 1\r\nPING\r\n").as_bytes()).await?;
        self.pong().await
    }

    /// The server has taken all that was sent before a `PING`.
    async fn pong(&mut self) -> Fallible<()> {
        match self.control().await?.as_str() {
            "PONG" => Ok(()),
            refused => Err(format!("nats-server refuses: {refused}").into()),
        }
    }

    pub(super) async fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) -> Fallible<()> {
        let mut text = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        text.extend_from_slice(payload);
        text.extend_from_slice(b"\r\n");
        self.send(&text).await
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Fallible<Published> {
        let line = self.control().await?;
        let fields: Vec<_> = line.split_whitespace().collect();
        let (reply, size) = match fields[..] {
            ["MSG", _, _, size] => (None, size),
            ["MSG", _, _, reply, size] => (Some(reply.to_owned()), size),
            _ => return Err(format!("a message was expected: {line}").into()),
        };
        let payload = self.bytes(size.parse()?).await?;
        self.bytes(2).await?;
        Ok(Published { reply, payload })
    }

    /// The next line that is no `PING`: the server sends one whenever it likes, and is answered.
    async fn control(&mut self) -> Fallible<String> {
        loop {
            let line = self.line().await?;
            if line != "PING" {
                return Ok(line);
            }
            self.send(b"PONG\r\n").await?;
        }
    }

    async fn send(&mut self, text: &[u8]) -> Fallible<()> {
        Ok(self.socket.send(Message::binary(text.to_vec())).await?)
    }

    async fn line(&mut self) -> Fallible<String> {
        loop {
            if let Some(end) = self.come.windows(2).position(|two| two == b"\r\n") {
                let line = self.bytes(end).await?;
                self.bytes(2).await?;
                return Ok(String::from_utf8(line)?);
            }
            self.read().await?;
        }
    }

    async fn bytes(&mut self, count: usize) -> Fallible<Vec<u8>> {
        while self.come.len() < count {
            self.read().await?;
        }
        Ok(self.come.drain(..count).collect())
    }

    async fn read(&mut self) -> Fallible<()> {
        match self.socket.next().await.ok_or("nats-server has hung up")?? {
            Message::Binary(bytes) => self.come.extend_from_slice(&bytes),
            Message::Close(_) => return Err("nats-server has hung up".into()),
            _ => {}
        }
        Ok(())
    }
}
