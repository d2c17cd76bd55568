//! One LDAP connection. Every request on it but a write has a deadline, and each says whether it was sent.

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ldap3::controls::RawControl;
use ldap3::{
    LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Mod, Scope, SearchEntry, SearchOptions, StdStream,
};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::answer::{diagnostic, is_about_the_question};
use super::transport::{self, Transport, Violation};
use crate::telemetry::trace::{Here, Kind, Parent as _, Span};

/// An open connection, with TLS, bound or not. It is closed when dropped.
pub(super) struct Connection {
    /// Where the other side is.
    pub(super) address: SocketAddr,
    ldap: ldap3::Ldap,
    /// The library's task.
    driver: AbortHandle,
    transport: Transport,
    limit: Duration,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The connection had ended before: not a byte was written.
    #[error("the connection is closed")]
    NotSent,
    /// It ended before the answer came.
    #[error("the connection broke before the answer came")]
    Lost,
    /// The other side sent what is no answer, and nothing more is heard of it.
    #[error("{0}")]
    Garbled(Violation),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A question, which it answered with no more than that it can't answer it: that is about the controller alone.
    #[error("{said}")]
    CanNot { code: u32, said: String },
}

/// What is looked for, and where.
pub(super) struct Search {
    pub(super) base: String,
    pub(super) scope: Scope,
    /// In the form of RFC 4515.
    pub(super) filter: String,
    pub(super) attributes: &'static [&'static str],
}

impl Connection {
    /// TLS, and what LDAP needs, over TCP with `host` at `address`; nobody is bound yet. There is no deadline here: whoever
    /// calls has one. The error is the cause, for people.
    pub(super) async fn over(
        tcp: TcpStream,
        address: SocketAddr,
        host: &str,
        tls: &Arc<ClientConfig>,
        start_tls: bool,
        limit: Duration,
    ) -> Result<Self, String> {
        let opened = transport::open(tcp, host, tls, start_tls, limit).await;
        let (transport, stream) = opened.map_err(|e| e.to_string())?;
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(stream));
        let (driver, ldap) = LdapConnAsync::with_settings(settings, "ldapi:///").await.map_err(|e| e.to_string())?;
        let driver = tokio::spawn(driver.drive()).abort_handle();
        Ok(Self { address, ldap, driver, transport, limit })
    }

    /// A simple bind (RFC 4513 §5.1). Never with an empty password, which would bind nobody and succeed.
    pub(super) async fn bind(&self, name: &str, password: &str) -> Result<LdapResult, RequestError> {
        let mut ldap = self.ldap.clone();
        self.ask("LDAP bind", async { ldap.simple_bind(name, password).await }).await
    }

    /// At most two entries, which is enough to see that there is more than one.
    pub(super) async fn search(&self, search: &Search) -> Result<(Vec<SearchEntry>, LdapResult), RequestError> {
        self.search_up_to(2, search, Vec::new()).await
    }

    /// At most `limit` entries, each with the parts of its `nTSecurityDescriptor` that decide about access (its owner, and
    /// its list), if that is among the attributes and may be read.
    pub(super) async fn sample(
        &self,
        limit: i32,
        search: &Search,
    ) -> Result<(Vec<SearchEntry>, LdapResult), RequestError> {
        self.search_up_to(limit, search, vec![sd_flags(OWNER | DACL)]).await
    }

    async fn search_up_to(
        &self,
        limit: i32,
        search: &Search,
        controls: Vec<RawControl>,
    ) -> Result<(Vec<SearchEntry>, LdapResult), RequestError> {
        let mut ldap = self.ldap.clone();
        ldap.with_search_options(SearchOptions::new().sizelimit(limit));
        if !controls.is_empty() {
            ldap.with_controls(controls);
        }
        let asked = self.ask("LDAP search", async {
            let found = ldap.search(&search.base, search.scope, &search.filter, search.attributes).await?;
            Ok((found.0.into_iter().map(SearchEntry::construct).collect(), found.1))
        });
        let (entries, result) = asked.await?;
        if is_about_the_question(&result) {
            return Ok((entries, result));
        }
        Err(RequestError::CanNot { code: result.rc, said: diagnostic(&result) })
    }

    /// Replaces the access list of an object, and nothing else of its security descriptor.
    pub(super) async fn replace_dacl(&self, dn: &str, descriptor: &[u8]) -> Result<LdapResult, RequestError> {
        let mut ldap = self.ldap.clone();
        ldap.with_controls(vec![sd_flags(DACL)]);
        let change = Mod::Replace(b"nTSecurityDescriptor".as_slice(), HashSet::from([descriptor]));
        self.ask("LDAP modify", async { ldap.modify(dn, vec![change]).await }).await
    }

    /// The certificate that the other side showed, in DER.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        self.transport.certificate.as_deref()
    }

    /// All of these changes in this order, or none (RFC 4511 §4.6). This alone has no limit: while the connection stands
    /// and there is no answer, the controller may still do it.
    pub(super) async fn modify(
        &self,
        dn: &str,
        changes: Vec<Mod<&[u8]>>,
        control: Option<RawControl>,
    ) -> Result<LdapResult, RequestError> {
        let mut ldap = self.ldap.clone();
        if let Some(control) = control {
            ldap.with_controls(vec![control]);
        }
        traced("LDAP modify", self.heard(async { ldap.modify(dn, changes).await })).await
    }

    /// How long an answer usually takes at most.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether the other side has not closed it, as far as this side knows.
    pub(super) fn is_open(&self) -> bool {
        !self.ldap.clone().is_closed()
    }

    async fn ask<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = ldap3::result::Result<T>>,
    ) -> Result<T, RequestError> {
        traced(operation, self.answer(request)).await
    }

    async fn answer<T>(&self, request: impl Future<Output = ldap3::result::Result<T>>) -> Result<T, RequestError> {
        timeout(self.limit, self.heard(request)).await.unwrap_or(Err(RequestError::TimedOut(self.limit)))
    }
    /// Should the library panic after all, that takes its connection with it, and not the agent's task.
    async fn heard<T>(&self, request: impl Future<Output = ldap3::result::Result<T>>) -> Result<T, RequestError> {
        match AssertUnwindSafe(request).catch_unwind().await {
            Err(_) => Err(RequestError::Garbled(Violation::Malformed("the library can't read it"))),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(LdapError::OpSend { .. })) => Err(RequestError::NotSent),
            Ok(Err(_)) => Err(self.transport.violation().map_or(RequestError::Lost, RequestError::Garbled)),
        }
    }
}

/// What is asked for no command (a preflight) is no trace of its own.
async fn traced<T>(
    operation: &'static str,
    asked: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    let mut span = Here.context().map(|command| Span::start(operation, Kind::Client, &command)).unwrap_or_default();
    let answered = asked.await;
    if answered.is_err() {
        span.fail("no_answer");
    }
    answered
}

/// `OWNER_SECURITY_INFORMATION` and `DACL_SECURITY_INFORMATION`.
const OWNER: u8 = 1;
const DACL: u8 = 4;

/// The SD flags control ([MS-ADTS] 3.1.1.3.4.1.11). Without it the whole descriptor is meant, which the service account may
/// not read.
fn sd_flags(parts: u8) -> RawControl {
    // SEQUENCE { INTEGER }
    let value = vec![0x30, 0x03, 0x02, 0x01, parts];
    RawControl { ctype: "1.2.840.113556.1.4.801".to_owned(), crit: true, val: Some(value) }
}
