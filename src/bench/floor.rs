//! The floor: a server that does only what none can do without. TLS, one HTTP request parsed, one Ed25519 verification, one
//! WebSocket frame to the agent, one back, one HTTP answer. It knows no tenants, keeps nothing and forgets nothing.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::Fallible;
use crate::protocol::command::Command;
use crate::protocol::jose::PublicKey;
use crate::relay::config::TlsFiles;
use crate::relay::tls::Certificate;

type Question = (Bytes, oneshot::Sender<Bytes>);

struct Floor {
    key: PublicKey,
    agents: Mutex<HashMap<String, mpsc::UnboundedSender<Question>>>,
}

/// Serves until the process is killed. Commands are verified with the key in `key_file`, a JWK.
///
/// # Errors
/// If it can't be set up.
pub async fn serve(listen: SocketAddr, files: TlsFiles, key_file: &Path) -> Fallible<()> {
    let key = serde_json::from_str(&std::fs::read_to_string(key_file)?)?;
    let floor = Arc::new(Floor { key, agents: Mutex::default() });
    let tls = TlsAcceptor::from(Certificate::load(files)?.current());
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let (floor, tls) = (Arc::clone(&floor), tls.clone());
        tokio::spawn(async move {
            let Ok(tls) = tls.accept(tcp).await else { return };
            let service = service_fn(|request| answer(Arc::clone(&floor), request));
            // Whoever hangs up is measured as an error by the other side.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service).with_upgrades().await;
        });
    }
}

async fn answer(floor: Arc<Floor>, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let agent = request.uri().path().to_owned();
    if let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) {
        let accept = derive_accept_key(key.as_bytes());
        let (questions, asked) = mpsc::unbounded_channel();
        floor.agents.lock().insert(agent, questions);
        tokio::spawn(session(hyper::upgrade::on(&mut request), asked));
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.extend(HeaderValue::try_from(accept).ok().map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
        return Ok(response);
    }
    let answered = ask(&floor, &agent, request).await;
    let status = if answered.is_some() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let mut response = Response::new(Full::new(answered.unwrap_or_default()));
    *response.status_mut() = status;
    Ok(response)
}

async fn ask(floor: &Floor, agent: &str, request: Request<Incoming>) -> Option<Bytes> {
    let body = request.into_body().collect().await.ok()?.to_bytes();
    let jws = Command::parse(std::str::from_utf8(&body).ok()?).ok()?;
    let _: Command = jws.verify([&floor.key]).ok()?;
    let agent = floor.agents.lock().get(agent)?.clone();
    let (reply, answered) = oneshot::channel();
    agent.send((body, reply)).ok()?;
    answered.await.ok()
}

async fn session(upgrade: OnUpgrade, mut asked: mpsc::UnboundedReceiver<Question>) {
    let Ok(upgraded) = upgrade.await else { return };
    let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
    let io = TokioIo::new(upgraded);
    let mut socket: WebSocketStream<TokioIo<Upgraded>> =
        WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            question = asked.recv() => {
                let Some((body, reply)) = question else { return };
                waiting.push_back(reply);
                if socket.send(Message::Binary(body)).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    let Some(reply) = waiting.pop_front() else { return };
                    // Who asked may have gone.
                    let _: Result<(), Bytes> = reply.send(bytes);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}
