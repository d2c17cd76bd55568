//! What is between the LDAP library and a domain controller: TCP, StartTLS, TLS, and a guard that lets through what the
//! library can read. The library has no bound on a message's size, depth or number, parses by recursion, and panics on some;
//! before TLS, and behind it, somebody else may write them.

mod ber;
mod message;
mod pending;
mod violation;

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use self::ber::Header;
use self::message::{EXTENDED_RESPONSE, Message, SEQUENCE};
use self::pending::Pending;
pub(super) use self::violation::Violation;
use crate::net::tls_fault;

/// `ExtendedRequest` with the name of StartTLS, 1.3.6.1.4.1.1466.20037, as message 1 (RFC 4511 §4.14).
const START_TLS: &[u8; 31] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// A connection to a domain controller as the library has it. The connection ends when this is dropped.
pub(super) struct Transport {
    /// The leaf, in DER.
    pub(super) certificate: Option<Vec<u8>>,
    violation: Arc<OnceLock<Violation>>,
    guard: AbortHandle,
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.guard.abort();
    }
}

/// Why there is no TLS with a domain controller.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("its name can't stand in a certificate")]
    Name,
    #[error("it refuses StartTLS (result {0})")]
    StartTls(u32),
    #[error("it closed the connection")]
    Closed,
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("{}", why_no_tls(.0))]
    Io(#[from] io::Error),
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// TLS, turned on inside or from the beginning, and where the library writes and reads. There is no deadline here: whoever
/// calls has one. `limit` is for each message from then on.
pub(super) async fn open(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    tls: &Arc<ClientConfig>,
    start_tls_first: bool,
    limit: Duration,
) -> Result<(Transport, StdUnixStream), OpenError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| OpenError::Name)?;
    if start_tls_first {
        start_tls(&mut stream, limit).await?;
    }
    let server = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
    let certificates = server.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().map(|leaf| leaf.to_vec());
    let (ours, librarys) = UnixStream::pair()?;
    let librarys = librarys.into_std()?;
    let violation = Arc::new(OnceLock::new());
    let guard = tokio::spawn(guard(server, ours, limit, Arc::clone(&violation))).abort_handle();
    Ok((Transport { certificate, violation, guard }, librarys))
}

impl Transport {
    /// What the domain controller did that it must not, if that ended the connection.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }
}

/// Nothing is read behind the answer, so what somebody may have put there is for TLS to judge.
async fn start_tls(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), limit: Duration) -> Result<(), OpenError> {
    stream.write_all(START_TLS).await?;
    let answer = match read(stream, limit).await {
        Ok(answer) => answer.ok_or(OpenError::Closed)?,
        Err(ReadError::Violation(violation)) => return Err(violation.into()),
        Err(ReadError::Io(_)) => return Err(OpenError::Closed),
    };
    let answer = Message::of_theirs(&answer)?;
    match (answer.id, answer.operation) {
        (0, _) => Err(OpenError::Closed),
        (1, EXTENDED_RESPONSE) => match answer.result_code()? {
            0 => Ok(()),
            refused => Err(OpenError::StartTls(refused)),
        },
        (id, _) => Err(Violation::NotAsked(id).into()),
    }
}

/// Carries messages both ways, until one side ends or the domain controller sends what it must not.
async fn guard(
    server: impl AsyncRead + AsyncWrite,
    library: UnixStream,
    limit: Duration,
    violation: Arc<OnceLock<Violation>>,
) {
    let (mut from_server, mut to_server) = split(server);
    let (mut from_library, mut to_library) = library.into_split();
    let pending = Mutex::new(Pending::default());
    let requests = async {
        while let Some(request) = read(&mut from_library, limit).await? {
            pending.lock().ask(&Message::of_ours(&request)?)?;
            let written = async {
                to_server.write_all(&request).await?;
                to_server.flush().await
            };
            timeout(limit, written).await.map_err(|_| Violation::Stuck(limit))??;
        }
        Ok::<_, ReadError>(())
    };
    let answers = async {
        while let Some(answer) = read(&mut from_server, limit).await? {
            let message = Message::of_theirs(&answer)?;
            if message.id == 0 {
                // A notice of disconnection, the only one there is (RFC 4511 §4.4.1).
                break;
            }
            if pending.lock().answer(&message, answer.len())? {
                to_library.write_all(&answer).await?;
            }
        }
        Ok::<_, ReadError>(())
    };
    let ended = tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
    };
    // Told before the library sees the end.
    if let Err(ReadError::Violation(found)) = ended {
        let _ = violation.set(found);
    }
}

/// The next message, as soon as it is whole; none at the end. It may be waited for as long as it takes, and has `limit` from
/// its first byte on. It may hold a password.
async fn read(stream: &mut (impl AsyncRead + Unpin), limit: Duration) -> Result<Option<Zeroizing<Vec<u8>>>, ReadError> {
    let mut head = Vec::with_capacity(6);
    if (&mut *stream).take(1).read_buf(&mut head).await? == 0 {
        return Ok(None);
    }
    if head != [SEQUENCE] {
        return Err(Violation::Malformed("a message is a sequence").into());
    }
    let rest = async {
        let header = loop {
            if let Some(header) = Header::read(&head)? {
                break header;
            }
            head.push(stream.read_u8().await?);
        };
        let mut message = Zeroizing::new(Vec::with_capacity(header.element()?));
        message.extend_from_slice(&head);
        message.resize(header.element()?, 0);
        if let Some(content) = message.get_mut(header.bytes..) {
            stream.read_exact(content).await?;
        }
        Ok(Some(message))
    };
    timeout(limit, rest).await.unwrap_or(Err(Violation::Trickled(limit).into()))
}

fn why_no_tls(error: &io::Error) -> String {
    match tls_fault::of(error) {
        Some(fault) => tls_fault::sentence(fault, None),
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            "it hung up in the middle of TLS: Windows does so without a certificate for LDAPS, and if it has none of the \
             cipher suites that are offered"
                .to_owned()
        }
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
