//! What the tests share.

pub(crate) mod agent;
pub(crate) mod cli;
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod dns;
pub(crate) mod fake_dc;
pub(crate) mod hostile;
pub(crate) mod hosts;
pub(crate) mod in_process;
pub(crate) mod kubelet;
pub(crate) mod ldap_message;
pub(crate) mod ldap_proxy;
pub(crate) mod logged;
pub(crate) mod portal_cli;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod pty;
pub(crate) mod raw_agent;
pub(crate) mod redis;
pub(crate) mod relay;
pub(crate) mod samba;
pub(crate) mod samba_rights;
pub(crate) mod scripted_relay;
pub(crate) mod secrets;
pub(crate) mod service_manager;
pub(crate) mod small_disk;
pub(crate) mod squid;
pub(crate) mod stranger;
pub(crate) mod tls_server;
pub(crate) mod untrusted;
pub(crate) mod wire;
pub(crate) mod wrong_clock;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use writeback_relay::net::{CONNECT_TIMEOUT, NetError, tls_client};

/// How long anything may take before a test counts as failed: far more than it ever takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks over HTTPS, or HTTP, of this host: with a relay's CA, and without a proxy.
pub(crate) fn https_client(ca_file: Option<&Path>) -> Result<reqwest::Client, NetError> {
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls_client(ca_file)?).no_proxy();
    Ok(client.connect_timeout(CONNECT_TIMEOUT).redirect(reqwest::redirect::Policy::none()).build().unwrap())
}

/// Every wait of a test has an end.
pub(crate) async fn deadline<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(PATIENCE, what, future).await
}

async fn within<T>(patience: Duration, what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(patience, future).await.unwrap_or_else(|_| panic!("it took too long: {what}"))
}

/// Waits for `condition`, and fails the test with `what` if it does not come true in time.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    eventually_within(PATIENCE, what, condition).await;
}

/// The same for what has much to do.
pub(crate) async fn eventually_within<F: Future<Output = bool>>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let waiting = async {
        while !condition().await {
            // Between two looks, not instead of one.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(patience, what, waiting).await;
}

/// An address of the loopback network that no other test, of this run or one beside it, uses.
pub(crate) fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (pid, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let octet = |value: u32| u8::try_from(value & 0xff).unwrap();
    // 127.64.0.0/10: 14 bits of the process id, 8 of the counter.
    Ipv4Addr::new(127, octet(64 + ((pid >> 8) & 0x3f)), octet(pid), octet(n))
}
