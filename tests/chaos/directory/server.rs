//! The process: it delays, loses answers before and after it has applied a change, and can be killed at any moment.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::sleep;
use uuid::Uuid;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::jose::sha256;

use super::{PORT, Question, Reply, account};
use crate::dice::Dice;
use crate::history::Change;

struct User {
    account: String,
    /// What happens to one account happens one after another: a question waits for a write that came before it.
    password: Mutex<Password>,
}

struct Password {
    digest: String,
    last_set: i64,
}

struct Directory {
    users: HashMap<Uuid, User>,
    log: parking_lot::Mutex<File>,
    dice: parking_lot::Mutex<Dice>,
}

/// Listens for ever.
pub(crate) async fn serve(address: Ipv4Addr, log: &Path, tenant: &str, accounts: usize, seed: u64) {
    let mut users: HashMap<Uuid, User> = (0..accounts)
        .map(|number| {
            let account = account(number);
            let password = Mutex::new(Password { digest: String::new(), last_set: 1 });
            (guid(tenant, &account), User { account, password })
        })
        .collect();
    for change in Change::read(log) {
        let user = users.get_mut(&change.guid).unwrap();
        *user.password.get_mut() = Password { digest: change.digest, last_set: change.pwd_last_set };
    }
    let log = open_log(log);
    // Another process, other throws: the number of changes differs.
    let dice = parking_lot::Mutex::new(Dice::of(seed, tenant, System.now_ms()));
    let directory = Arc::new(Directory { users, log: parking_lot::Mutex::new(log), dice });
    let listener = loop {
        // The one that was killed a moment ago may still have the port.
        match TcpListener::bind((address, PORT)).await {
            Ok(listener) => break listener,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        let directory = Arc::clone(&directory);
        tokio::spawn(async move { directory.converse(connection).await });
    }
}

/// A line that was half written when the process was killed was answered to nobody, and goes.
fn open_log(path: &Path) -> File {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let log = File::options().create(true).append(true).open(path).unwrap();
    log.set_len(whole.try_into().unwrap()).unwrap();
    log
}

fn guid(tenant: &str, account: &str) -> Uuid {
    let hash = sha256(format!("{tenant}/{account}").as_bytes());
    uuid::Builder::from_random_bytes(hash[..16].try_into().unwrap()).into_uuid()
}

impl Directory {
    /// One question on each connection.
    async fn converse(&self, mut connection: TcpStream) -> Option<()> {
        let (reading, mut writing) = connection.split();
        let mut line = String::new();
        BufReader::new(reading).read_line(&mut line).await.ok()?;
        let reply = self.answer(serde_json::from_str(&line).ok()?).await?;
        let reply = serde_json::to_string(&reply).unwrap() + "\n";
        writing.write_all(reply.as_bytes()).await.ok()
    }

    /// Nothing, if the answer gets lost.
    async fn answer(&self, question: Question) -> Option<Reply> {
        Some(match question {
            Question::Find(name) => {
                let found = self.users.iter().find(|(_, user)| user.account == name);
                self.seen(found.map(|(guid, _)| *guid)).await
            }
            Question::FindGuid(guid) => self.seen(Some(guid)).await,
            Question::Reset { guid, digest, force_change } => {
                return self.reset(guid, self.users.get(&guid)?, digest, force_change).await;
            }
            Question::LastSet(guid) => Reply::LastSet(self.users.get(&guid)?.password.lock().await.last_set),
            Question::Check { guid, digest } => {
                Reply::Checked(self.users.get(&guid)?.password.lock().await.digest == digest)
            }
        })
    }

    async fn seen(&self, guid: Option<Uuid>) -> Reply {
        let Some((guid, user)) = guid.and_then(|guid| Some((guid, self.users.get(&guid)?))) else {
            return Reply::NoSuchAccount;
        };
        let pwd_last_set = user.password.lock().await.last_set;
        Reply::Account { guid, account: user.account.clone(), pwd_last_set }
    }

    async fn reset(&self, guid: Uuid, user: &User, digest: String, force_change: bool) -> Option<Reply> {
        let mut password = user.password.lock().await;
        let (before, lost_before, after, lost_after) = {
            let mut dice = self.dice.lock();
            let slow = dice.percent(2);
            let before = if slow { dice.millis(1_000, 2_000) } else { dice.millis(0, 100) };
            let slow = dice.percent(2);
            let after = if slow { dice.millis(2_000, 4_000) } else { dice.millis(0, 20) };
            (before, dice.percent(2), after, dice.percent(4))
        };
        sleep(before).await;
        if lost_before {
            return None;
        }
        let now = i64::try_from(System.now_ms()).unwrap();
        let pwd_last_set = if force_change { 0 } else { now.max(password.last_set + 1) };
        let account = user.account.clone();
        let change = Change { at_ms: now, guid, account, digest: digest.clone(), pwd_last_set };
        self.write(&change);
        *password = Password { digest, last_set: pwd_last_set };
        drop(password);
        sleep(after).await;
        (!lost_after).then_some(Reply::Done)
    }

    fn write(&self, change: &Change) {
        let mut log = self.log.lock();
        log.write_all((serde_json::to_string(change).unwrap() + "\n").as_bytes()).unwrap();
        log.sync_data().unwrap();
    }
}
