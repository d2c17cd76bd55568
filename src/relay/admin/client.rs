//! The operator's commands, as calls to a running node's admin API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::LINK;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use zeroize::Zeroizing;

pub use super::api::{Accepted, Imported, LogLevel, NewTenant, RevokedByImport, SessionView};
pub use super::nodes::NodeView;
pub use super::overview::{AgentCounts, Overview, RotationView};
pub use super::portals::PortalChanged;
pub use super::presence::SeenSession;
pub use super::troubles::Trouble;
use crate::net::{NetError, causes, operator_client};
use crate::protocol::ids::{AgentId, PortalId, TenantId};
use crate::protocol::json;
use crate::protocol::problem::Problem;
use crate::protocol::untrusted::Untrusted;
use crate::relay::registry::{AgentRecord, PortalRecord, Snapshot, TenantRecord};
use crate::storage::{FileError, PrivateFile};

/// Rows that are asked for at a time.
const PAGE: usize = 500;

/// Why an operator's command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The token can't be read.
    #[error("the admin token can't be read: {0}")]
    Token(#[from] FileError),
    /// No client.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The node does not answer.
    #[error("{url} does not answer; is the relay running, and is this its ops_listen? ({detail})")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        detail: String,
    },
    /// It says that it does not serve. The same reason is said in the same words each time, so that whoever keeps them, as
    /// Kubernetes keeps its events, can count: no support code.
    #[error("not ready: {0}")]
    NotReady(#[source] Box<Problem>),
    /// It refused.
    #[error("{problem}; support code {trace_id}", problem = .0, trace_id = .0.trace_id.cell())]
    Refused(#[source] Box<Problem>),
    /// Its answer, or its list, has no end.
    #[error("{url} answers without an end; is this a node's ops_listen?")]
    Endless {
        /// Where.
        url: String,
    },
    /// It answered something else.
    #[error("{url} answered {status}, which is no answer of a relay's admin API")]
    Unexpected {
        /// Where.
        url: String,
        /// What.
        status: u16,
    },
}

/// A node says at once whether it serves. Who runs a probe waits longer than this, and so hears why there was no answer.
const READINESS_TIMEOUT: Duration = Duration::from_secs(2);
/// It is a line.
const MAX_READINESS_BYTES: usize = 64 * 1024;

/// What a node's `/readyz` says, if it serves. `ops_url` as with [`AdminClient::new`]; no token is needed.
///
/// # Errors
/// If it does not answer soon, or is not ready; the message says why.
pub async fn readiness(ops_url: &str) -> Result<Untrusted, AdminError> {
    let url = format!("{}/readyz", ops_url.trim_end_matches('/'));
    let client = operator_client()?;
    let answer = timeout(READINESS_TIMEOUT, read(client.get(&url), &url, MAX_READINESS_BYTES)).await;
    match answer {
        Ok(Ok(answer)) => Ok(String::from_utf8_lossy(&answer.bytes).into_owned().into()),
        Ok(Err(AdminError::Refused(problem))) => Err(AdminError::NotReady(problem)),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let detail = format!("no answer within {} s", READINESS_TIMEOUT.as_secs());
            Err(AdminError::Unreachable { url, detail })
        }
    }
}

/// What a node answers.
struct Answer {
    bytes: Vec<u8>,
    /// Where a list goes on.
    next: Option<String>,
}

/// Where `Link` says that a list goes on (RFC 8288), on the same node.
fn next_page(response: &reqwest::Response) -> Option<String> {
    let link = response.headers().get(LINK)?.to_str().ok()?;
    Some(link.strip_prefix("</admin/v1")?.strip_suffix(">; rel=\"next\"")?.to_owned())
}

/// The registry of a hundred thousand agents has a tenth of it. A list has no more in all its pages.
const MAX_ANSWER_BYTES: usize = 1024 * 1024 * 1024;
/// A million rows.
const MAX_PAGES: usize = 2000;

/// Sends a request, and reads its answer of at most so many bytes.
async fn read(request: reqwest::RequestBuilder, url: &str, most: usize) -> Result<Answer, AdminError> {
    let unreachable =
        |e: reqwest::Error| AdminError::Unreachable { url: url.to_owned(), detail: causes(&e.without_url()) };
    let mut response = request.send().await.map_err(unreachable)?;
    let (status, next) = (response.status(), next_page(&response));
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unreachable)? {
        if bytes.len() + part.len() > most {
            return Err(AdminError::Endless { url: url.to_owned() });
        }
        bytes.extend(part);
    }
    if status.is_success() {
        return Ok(Answer { bytes, next });
    }
    match json::read(&bytes) {
        Ok(problem) => Err(AdminError::Refused(Box::new(problem))),
        Err(_) => Err(AdminError::Unexpected { url: url.to_owned(), status: status.as_u16() }),
    }
}

/// A running node's admin API.
pub struct AdminClient {
    http: reqwest::Client,
    base: String,
    token: Zeroizing<String>,
}

impl AdminClient {
    /// `ops_url` is `http://` and the node's `ops_listen`.
    ///
    /// # Errors
    /// If the token can't be read.
    pub fn new(ops_url: &str, token_file: &Path) -> Result<Self, AdminError> {
        Self::with_token(ops_url, &PrivateFile::new(PathBuf::from(token_file)).read()?)
    }

    /// The same, with the token itself.
    ///
    /// # Errors
    /// If no client can be set up.
    pub fn with_token(ops_url: &str, token: &str) -> Result<Self, AdminError> {
        let token = Zeroizing::new(token.trim().to_owned());
        Ok(Self { http: operator_client()?, base: format!("{}/admin/v1", ops_url.trim_end_matches('/')), token })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<Answer, AdminError> {
        self.send_within(MAX_ANSWER_BYTES, method, path, body).await
    }

    async fn send_within(
        &self,
        most: usize,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, AdminError> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, &url).bearer_auth(&*self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request, &url, most).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        self.call(Method::GET, path).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, AdminError> {
        let answer = self.send(method, path, None::<&()>).await?;
        self.understood(path, &answer)
    }

    fn understood<T: DeserializeOwned>(&self, path: &str, answer: &Answer) -> Result<T, AdminError> {
        json::read_with_nulls(&answer.bytes)
            .map_err(|_| AdminError::Unexpected { url: format!("{}{path}", self.base), status: 200 })
    }

    /// A whole list, page by page.
    async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, AdminError> {
        self.list_within(MAX_ANSWER_BYTES, path).await
    }

    /// A whole list of at most so many bytes.
    async fn list_within<T: DeserializeOwned>(&self, mut most: usize, path: &str) -> Result<Vec<T>, AdminError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let (mut rows, mut page) = (Vec::new(), format!("{path}{separator}limit={PAGE}"));
        for _ in 0..MAX_PAGES {
            let answer = self.send_within(most, Method::GET, &page, None::<&()>).await?;
            most -= answer.bytes.len();
            let more: Vec<T> = self.understood(&page, &answer)?;
            // A page that brings nothing leads nowhere.
            let next = answer.next.filter(|_| !more.is_empty());
            rows.extend(more);
            let Some(next) = next else { return Ok(rows) };
            page = next;
        }
        Err(AdminError::Endless { url: format!("{}{path}", self.base) })
    }

    /// Adds a tenant.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn add_tenant(&self, tenant: TenantId) -> Result<(), AdminError> {
        self.send(Method::POST, "/tenants", Some(&NewTenant { tenant })).await.map(drop)
    }

    /// All tenants.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn tenants(&self) -> Result<Vec<TenantRecord>, AdminError> {
        self.list("/tenants").await
    }

    /// All portals.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn portals(&self) -> Result<Vec<PortalRecord>, AdminError> {
        self.list("/portals").await
    }

    /// Adds a portal, or to one that is there what it does not have. Nothing is taken away.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn add_portal(&self, portal: &PortalRecord) -> Result<PortalChanged, AdminError> {
        let answer = self.send(Method::POST, "/portals", Some(portal)).await?;
        self.understood("/portals", &answer)
    }

    /// Stores a portal in place of what was there; what that took away.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn put_portal(&self, portal: &PortalRecord) -> Result<PortalChanged, AdminError> {
        let answer = self.send(Method::PUT, "/portals", Some(portal)).await?;
        self.understood("/portals", &answer)
    }

    /// Removes a portal; what it was.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn remove_portal(&self, portal: &PortalId) -> Result<PortalChanged, AdminError> {
        // A portal's name needs no encoding in a query.
        self.call(Method::DELETE, &format!("/portals?portal={portal}")).await
    }

    /// Grants a portal one more tenant.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn grant(&self, portal: &PortalId, tenant: &TenantId) -> Result<PortalChanged, AdminError> {
        self.call(Method::PUT, &format!("/portals/tenants?portal={portal}&tenant={tenant}")).await
    }

    /// Takes a tenant away from a portal.
    ///
    /// # Errors
    /// If it was not granted, or the node refuses or does not answer.
    pub async fn withdraw(&self, portal: &PortalId, tenant: &TenantId) -> Result<PortalChanged, AdminError> {
        self.call(Method::DELETE, &format!("/portals/tenants?portal={portal}&tenant={tenant}")).await
    }

    /// A tenant's agents.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn agents(&self, tenant: &TenantId) -> Result<Vec<AgentRecord>, AdminError> {
        self.list(&format!("/tenants/{tenant}/agents")).await
    }

    /// Revokes an agent.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn revoke_agent(&self, tenant: &TenantId, agent: AgentId) -> Result<(), AdminError> {
        self.send(Method::DELETE, &format!("/tenants/{tenant}/agents/{agent}"), None::<&()>).await.map(drop)
    }

    /// Forgets a revoked agent.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn forget_agent(&self, tenant: &TenantId, agent: AgentId) -> Result<(), AdminError> {
        self.send(Method::DELETE, &format!("/tenants/{tenant}/tombstones/{agent}"), None::<&()>).await.map(drop)
    }

    /// This node's sessions.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn sessions(&self) -> Result<Vec<SessionView>, AdminError> {
        self.list("/sessions").await
    }

    /// The sessions of all nodes, or of one tenant on them.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn presence(&self, tenant: Option<&TenantId>) -> Result<Vec<SeenSession>, AdminError> {
        let only = tenant.map(|tenant| format!("?tenant={tenant}")).unwrap_or_default();
        self.list(&format!("/presence{only}")).await
    }

    /// Nodes, agents, rotations, and what is wrong.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn overview(&self) -> Result<Overview, AdminError> {
        self.get("/overview").await
    }

    /// Asks a node, by its name or id, to finish what is in flight and stop; this one if there is no name. Which it is.
    ///
    /// # Errors
    /// If there is no such node, or the one that is asked refuses or does not answer.
    pub async fn drain(&self, node: Option<&str>) -> Result<NodeView, AdminError> {
        let which =
            node.map(|node| format!("?node={}", utf8_percent_encode(node, NON_ALPHANUMERIC))).unwrap_or_default();
        self.call(Method::POST, &format!("/drain{which}")).await
    }

    /// What this node logs.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn log_level(&self) -> Result<LogLevel, AdminError> {
        self.get("/log-level").await
    }

    /// Changes what this node logs, until it stops.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn set_log_level(&self, level: String) -> Result<(), AdminError> {
        self.send(Method::PUT, "/log-level", Some(&LogLevel { level })).await.map(drop)
    }

    /// The registry as a whole.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn export(&self) -> Result<Snapshot, AdminError> {
        self.get("/registry").await
    }

    /// Says that the registry is to be as it is now, though it came back empty or older.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn accept_registry(&self) -> Result<Accepted, AdminError> {
        self.call(Method::POST, "/registry/acceptance").await
    }

    /// Adds to the registry what it does not have; the agents that are revoked by that.
    ///
    /// # Errors
    /// If the node refuses or does not answer.
    pub async fn import(&self, snapshot: &Snapshot) -> Result<Imported, AdminError> {
        let answer = self.send(Method::PUT, "/registry", Some(snapshot)).await?;
        self.understood("/registry", &answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::header;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    /// A node whose one page of nine bytes leads to itself, so many times.
    async fn client(pages: usize) -> AdminClient {
        let left = Arc::new(AtomicUsize::new(pages));
        let page = move || {
            let last = left.fetch_sub(1, Ordering::Relaxed) == 1;
            let next = if last { "" } else { "</admin/v1/tenants?limit=500>; rel=\"next\"" };
            async move { ([(header::LINK, next)], "[1,2,3,4]") }
        };
        let routes = Router::new().route("/admin/v1/tenants", get(page));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        AdminClient::with_token(&url, "token").unwrap()
    }

    #[tokio::test]
    async fn a_list_is_followed_to_its_end_and_one_without_an_end_is_given_up() {
        let rows = client(3).await.list::<u8>("/tenants").await.unwrap();
        assert_eq!(rows, [1, 2, 3, 4].repeat(3));
        let endless = client(usize::MAX).await.list::<u8>("/tenants").await.unwrap_err();
        assert!(matches!(&endless, AdminError::Endless { url } if url.ends_with("/tenants")), "{endless}");
    }

    #[tokio::test]
    async fn a_list_has_no_more_bytes_in_all_its_pages_than_one_answer_may_have() {
        for (most, taken) in [(27, true), (26, false), (9, false)] {
            let rows = client(3).await.list_within::<u8>(most, "/tenants").await;
            assert_eq!(matches!(rows, Err(AdminError::Endless { .. })), !taken, "{most}: {rows:?}");
        }
    }
}
