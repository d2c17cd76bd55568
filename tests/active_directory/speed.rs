//! What the agent adds to a write: it looks the account up, twice. Beside plain `ldapmodify`, in turns, in one run:
//!
//!     cargo test --release --test it active_directory::speed -- --nocapture

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::task::spawn_blocking;
use writeback_relay::agent::directory::Directory;
use writeback_relay::protocol::command::Options;

use super::{OLD, directory, in_time, password, upn};
use crate::support::samba::{Ou, User, dc, unicode_pwd};

const ROUNDS: usize = 4;
const RESETS: usize = 25;
/// Machines are noisy. What is measured stands in docs/agent.md; more than this is a fault.
const FAR_TOO_MUCH: f64 = 2.0;

fn new_password(n: usize) -> String {
    format!("Better-Passw0rd-{n}")
}

/// One process, one connection, one modification after another.
async fn plain(user: &User) -> Duration {
    let mut changes = String::new();
    for n in 0..RESETS {
        let value = STANDARD.encode(unicode_pwd(&new_password(n)));
        let _ =
            write!(changes, "dn: {}\nchangetype: modify\nreplace: unicodePwd\nunicodePwd:: {value}\n-\n\n", user.dn);
    }
    let (account, file) = dc().service_account();
    let mut command = Command::new("ldapmodify");
    command.args(["-H", &dc().ldaps_url(), "-x", "-D", &account, "-y"]).arg(file).env("LDAPTLS_CACERT", dc().ca_file());
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let run = move || {
        let began = Instant::now();
        let mut running = command.spawn().expect("ldap-utils is installed");
        running.stdin.take().unwrap().write_all(changes.as_bytes()).unwrap();
        assert!(running.wait().unwrap().success());
        began.elapsed()
    };
    spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn a_reset_by_the_agent_costs_little_more_than_the_bare_modification() {
    let user = dc().create_user("speed", Ou::Staff, OLD).await;
    let directory = directory();
    let subject = upn(&user.upn);
    directory.find(&subject).await.unwrap();
    let (mut by_agent, mut by_ldapmodify) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        by_ldapmodify += plain(&user).await;
        let began = Instant::now();
        for n in 0..RESETS {
            let account = directory.find(&subject).await.unwrap();
            let new = password(&new_password(n));
            directory.reset_password(&account, &new, Options::default(), &in_time()).await.unwrap();
        }
        by_agent += began.elapsed();
    }
    let each = |all: Duration| all.as_secs_f64() * 1e3 / f64::from(u16::try_from(ROUNDS * RESETS).unwrap());
    let ratio = by_agent.as_secs_f64() / by_ldapmodify.as_secs_f64();
    println!("agent {:.2} ms, ldapmodify {:.2} ms, ratio {ratio:.2}", each(by_agent), each(by_ldapmodify));
    assert!(ratio < FAR_TOO_MUCH, "{ratio}");
}
