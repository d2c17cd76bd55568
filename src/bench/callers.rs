//! Connections of portals: one request at a time on each.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderName, Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::Fallible;
use super::nats::Nats;
use super::population::{self, Population, Request, TENANT};
use super::subject::Subject;
use super::wire::Dialer;

/// A connection that submits requests and waits for their answer.
pub(super) enum Caller {
    Http { sender: SendRequest<Full<Bytes>>, subject: Subject, everybody: Arc<Population> },
    Nats { nats: Box<Nats>, inbox: String, prefix: &'static str },
}

impl Caller {
    /// The `number`th of them.
    pub(super) async fn open(
        subject: Subject,
        dialer: &Dialer,
        number: usize,
        everybody: &Arc<Population>,
    ) -> Fallible<Self> {
        if subject.is_http() {
            let (sender, connection) = http1::handshake(TokioIo::new(dialer.connect(number).await?)).await?;
            // It ends with the last request, or fails it.
            tokio::spawn(connection);
            return Ok(Self::Http { sender, subject, everybody: Arc::clone(everybody) });
        }
        let mut nats = Box::new(Nats::open(dialer, number).await?);
        let inbox = format!("_INBOX.{number}");
        nats.subscribe(&inbox).await?;
        let prefix = if subject == Subject::JetStream { "commands" } else { "agent" };
        Ok(Self::Nats { nats, inbox, prefix })
    }

    /// Submits a request, and waits for what becomes of it.
    pub(super) async fn call(&mut self, request: Request) -> Fallible<()> {
        let Request { agent, portal, body } = request;
        match self {
            Self::Http { sender, subject, everybody } => {
                let path = match subject {
                    Subject::Floor => format!("/agents/{agent}"),
                    _ => format!("/v1/tenants/{TENANT}/commands"),
                };
                let request = HttpRequest::post(path)
                    .header(HOST, population::HOST)
                    .header(AUTHORIZATION, everybody.authorization(portal)?)
                    .header(CONTENT_TYPE, "application/jose")
                    .header(HeaderName::from_static("prefer"), "wait=30")
                    .body(Full::from(body))?;
                sender.ready().await?;
                let response = sender.send_request(request).await?;
                let (status, body) = (response.status(), response.into_body().collect().await?.to_bytes());
                let concluded = br#""state":"concluded""#;
                let ended = *subject == Subject::Floor || body.windows(concluded.len()).any(|part| part == concluded);
                if status == StatusCode::OK && ended {
                    return Ok(());
                }
                Err(format!("the {subject} answered {status}: {}", String::from_utf8_lossy(&body)).into())
            }
            Self::Nats { nats, inbox, prefix } => {
                nats.publish(&format!("{prefix}.{agent}"), inbox, body.as_bytes()).await?;
                let answered = nats.next().await?.payload;
                if answered.windows(7).any(|part| part == b"\"error\"") {
                    return Err(format!("nats-server answered {}", String::from_utf8_lossy(&answered)).into());
                }
                Ok(())
            }
        }
    }
}
