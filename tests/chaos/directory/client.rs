//! The agent's side.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;
use writeback_relay::agent::directory::{
    Account, Deadline, Directory, DirectoryError, Finding, PasswordCheck, Written,
};
use writeback_relay::clock::Clock;
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::password::Password;

use super::{PORT, Question, Reply, WEAK, digest};

/// Longer than most of the directory's delays, shorter than some.
const ANSWER: Duration = Duration::from_secs(3);

/// A directory in another process.
pub(crate) struct Remote {
    address: SocketAddr,
}

pub(crate) fn address(host: Ipv4Addr) -> SocketAddr {
    (host, PORT).into()
}

fn unavailable(error: impl ToString) -> DirectoryError {
    DirectoryError::Unavailable(error.to_string())
}

fn uncertain(error: impl ToString) -> DirectoryError {
    DirectoryError::Uncertain(error.to_string())
}

impl Remote {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    async fn connect(&self) -> Result<TcpStream, DirectoryError> {
        timeout(ANSWER, TcpStream::connect(self.address)).await.map_err(unavailable)?.map_err(unavailable)
    }

    /// Whatever goes wrong here may have been done.
    async fn put(mut connection: TcpStream, question: &Question) -> Result<Reply, DirectoryError> {
        let asking = async {
            connection.write_all((serde_json::to_string(question).unwrap() + "\n").as_bytes()).await?;
            let mut line = String::new();
            BufReader::new(connection).read_line(&mut line).await?;
            Ok::<_, std::io::Error>(line)
        };
        let line = timeout(ANSWER, asking).await.map_err(uncertain)?.map_err(uncertain)?;
        serde_json::from_str(&line).map_err(|_| uncertain("the answer got lost"))
    }

    async fn ask(&self, question: &Question) -> Result<Reply, DirectoryError> {
        let connection = self.connect().await?;
        Self::put(connection, question).await.map_err(unavailable)
    }

    async fn last_set(&self, guid: Uuid) -> Result<i64, DirectoryError> {
        match self.ask(&Question::LastSet(guid)).await? {
            Reply::LastSet(at) => Ok(at),
            other => Err(unavailable(format!("{other:?}"))),
        }
    }
}

#[async_trait]
impl Directory for Remote {
    async fn find(&self, subject: &Subject) -> Result<Account, DirectoryError> {
        let question = match subject {
            Subject::Upn(upn) => Question::Find(upn.to_lowercase()),
            Subject::ObjectGuid(guid) => Question::FindGuid(*guid),
        };
        match self.ask(&question).await? {
            Reply::Account { guid, account, pwd_last_set } => Ok(Account {
                object_guid: guid,
                dn: account.clone(),
                upn: Some(account),
                controller: self.address.to_string(),
                pwd_last_set,
                lockout_time: 0,
                logon: None,
            }),
            _ => Err(DirectoryError::Refused { code: Code::UserNotFound, detail: "no such account".to_owned() }),
        }
    }

    async fn reset_password(
        &self,
        account: &Account,
        new_password: &Password,
        options: Options,
        deadline: &Deadline,
    ) -> Result<Written, DirectoryError> {
        if new_password.expose().contains(WEAK) {
            return Err(DirectoryError::Refused { code: Code::PasswordPolicy, detail: "too weak".to_owned() });
        }
        let connection = self.connect().await?;
        deadline.allows()?;
        let (guid, force_change) = (account.object_guid, options.force_change_at_next_logon);
        let question = Question::Reset { guid, digest: digest(new_password.expose()), force_change };
        match Self::put(connection, &question).await? {
            Reply::Done => Ok(Written::Done),
            other => Err(uncertain(format!("{other:?}"))),
        }
    }

    /// Only resets are asked for here.
    async fn change_password(
        &self,
        _: &Account,
        _: &Password,
        _: &Password,
        _: &Deadline,
    ) -> Result<Written, DirectoryError> {
        Err(unavailable("this directory only resets"))
    }

    async fn unlock_account(&self, _: &Account, _: &Deadline) -> Result<Written, DirectoryError> {
        Err(unavailable("this directory only resets"))
    }

    async fn lockout_time(&self, _: &Account) -> Result<i64, DirectoryError> {
        Err(unavailable("this directory only resets"))
    }

    async fn pwd_last_set(&self, account: &Account) -> Result<i64, DirectoryError> {
        self.last_set(account.object_guid).await
    }

    async fn try_password(&self, account: &Account, password: &Password) -> Result<PasswordCheck, DirectoryError> {
        let question = Question::Check { guid: account.object_guid, digest: digest(password.expose()) };
        match self.ask(&question).await? {
            Reply::Checked(true) => Ok(PasswordCheck::Right),
            Reply::Checked(false) => Ok(PasswordCheck::Wrong),
            other => Err(unavailable(format!("{other:?}"))),
        }
    }

    async fn preflight(&self, _: &dyn Clock) -> Vec<Finding> {
        Vec::new()
    }
}
