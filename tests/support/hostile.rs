//! What somebody between an agent and its domain controller, or a hostile domain controller, sends in place of an answer.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::sleep;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// 250 kB of sequences, each in another.
    Nested,
    /// The same with lengths that end at an end-of-contents.
    Indefinite,
    /// A message of 2 GiB is announced, and what is taken of it is sent.
    Announced,
    /// A text of 200 MB in a message that is otherwise good.
    HugeText,
    /// A quarter of a megabyte of empty values.
    EmptyValues,
    /// Entries that never end.
    Entries,
    /// References that never end.
    References,
    /// A byte now and then, for ever.
    Trickled,
    /// The answer to another request, again and again.
    WrongId,
    /// Notices that nobody asked for, one after the other.
    Unsolicited,
    /// An extended response in place of whatever was asked.
    WrongOperation,
    /// Another protocol.
    Http,
}

pub(crate) const ATTACKS: [Attack; 12] = [
    Attack::Nested,
    Attack::Indefinite,
    Attack::Announced,
    Attack::HugeText,
    Attack::EmptyValues,
    Attack::Entries,
    Attack::References,
    Attack::Trickled,
    Attack::WrongId,
    Attack::Unsolicited,
    Attack::WrongOperation,
    Attack::Http,
];

/// With a length of four bytes, as domain controllers write it.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x84][..], &u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

fn message(id: u8, operation: u8, content: &[u8]) -> Vec<u8> {
    element(0x30, &[&[2, 1, id][..], &element(operation, content)].concat())
}

/// `LDAPResult`: success.
const SUCCESS: &[u8] = &[0x0a, 1, 0, 4, 0, 4, 0];

impl Attack {
    /// Sends it in place of the answer to request `id`, until the other side has had enough. What the other side says is
    /// listened to meanwhile, as a controller would that only looks busy.
    pub(crate) async fn send(self, id: u8, stream: impl AsyncRead + AsyncWrite) {
        let (mut theirs, mut ours) = tokio::io::split(stream);
        let mut ignored = [0; 4096];
        let listening = async { while matches!(theirs.read(&mut ignored).await, Ok(1..)) {} };
        tokio::select! {
            _ = self.write(id, &mut ours) => {}
            () = listening => {}
        }
    }

    async fn write(self, id: u8, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        match self {
            Self::Nested => {
                let mut nested = Vec::new();
                // From the outermost to the innermost: what is inside of each has the rest of the length.
                for depth in 0..41_600_u32 {
                    nested.extend([0x30, 0x84]);
                    nested.extend((6 * (41_599 - depth)).to_be_bytes());
                }
                stream.write_all(&nested).await?;
            }
            Self::Indefinite => stream.write_all(&[0x30, 0x80].repeat(125_000)).await?,
            Self::Announced => {
                stream
                    .write_all(&[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, id, 0x64, 0x84, 0x7f, 0xff, 0xff, 0xf0])
                    .await?;
                for_ever(stream, &[0x04; 65_536]).await?;
            }
            Self::HugeText => {
                const LENGTH: u32 = 200_000_000;
                let length = |of: u32| of.to_be_bytes();
                let message = [&[0x30, 0x84][..], &length(LENGTH + 20), &[2, 1, id]].concat();
                let result = [&[0x65, 0x84][..], &length(LENGTH + 11), &[0x0a, 1, 0, 4, 0]].concat();
                let text = [&[0x04, 0x84][..], &length(LENGTH)].concat();
                stream.write_all(&[message, result, text].concat()).await?;
                for_ever(stream, &[b'x'; 65_536]).await?;
            }
            Self::EmptyValues => {
                let attribute = [element(0x04, b"a"), element(0x31, &[4, 0].repeat(131_000))].concat();
                let attributes = element(0x30, &element(0x30, &attribute));
                stream.write_all(&message(id, 0x64, &[&[4, 0], &attributes[..]].concat())).await?;
            }
            Self::Entries => for_ever(stream, &message(id, 0x64, &[4, 0, 0x30, 0]).repeat(1000)).await?,
            Self::References => for_ever(stream, &message(id, 0x73, &element(0x04, b"ldap://x")).repeat(1000)).await?,
            Self::Trickled => {
                for byte in [0x30, 0x83, 0x01, 0x00, 0x00].into_iter().chain(std::iter::repeat(0)) {
                    stream.write_all(&[byte]).await?;
                    stream.flush().await?;
                    sleep(Duration::from_millis(100)).await;
                }
            }
            Self::WrongId => for_ever(stream, &message(id + 77, 0x65, SUCCESS)).await?,
            Self::Unsolicited => {
                let name = element(0x8a, b"1.2.3.4");
                for_ever(stream, &message(0, 0x78, &[SUCCESS, &name].concat())).await?;
            }
            Self::WrongOperation => stream.write_all(&message(id, 0x79, b"")).await?,
            Self::Http => stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await?,
        }
        stream.flush().await?;
        // It hangs up last.
        std::future::pending().await
    }
}

async fn for_ever(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    loop {
        stream.write_all(bytes).await?;
    }
}

/// Somebody on the way, who needs no certificate: StartTLS is answered with an attack. He stops when dropped.
pub(crate) struct OnTheWay {
    pub(crate) url: String,
    task: AbortHandle,
}

impl OnTheWay {
    pub(crate) async fn answering(attack: Attack) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ldap://localhost:{}", tcp.local_addr().unwrap().port());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                tokio::spawn(async move {
                    // The request for StartTLS, which has this length.
                    if stream.read_exact(&mut [0; 31]).await.is_ok() {
                        attack.send(1, stream).await;
                    }
                });
            }
        });
        Self { url, task: task.abort_handle() }
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
