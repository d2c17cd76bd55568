//! Whether resets can work: each domain controller is reached anew, as at the agent's start.

use std::net::IpAddr;

use futures_util::future::join_all;
use ldap3::Scope;

use super::answer::diagnostic;
use super::connection::{Connection, Search};
use super::controller::{Controller, ControllerError};
use crate::protocol::api::{PreflightRow, PreflightState};

/// One controller's rows, in the order in which they were found; the first failure is the last row.
struct Findings<'a> {
    controller: &'a Controller,
    rows: Vec<PreflightRow>,
}

/// The rows of all controllers. While one of them works, what is wrong with another is a warning.
pub(super) async fn preflight(controllers: &[Controller]) -> Vec<PreflightRow> {
    let findings = join_all(controllers.iter().map(check)).await;
    let one_works = findings.iter().any(|rows| rows.iter().all(|row| row.state != PreflightState::Failed));
    let mut rows: Vec<_> = findings.into_iter().flatten().collect();
    if one_works {
        for row in rows.iter_mut().filter(|row| row.state == PreflightState::Failed) {
            row.state = PreflightState::Warning;
            row.detail.push_str("; another domain controller answers meanwhile");
        }
    }
    rows
}

async fn check(controller: &Controller) -> Vec<PreflightRow> {
    let mut findings = Findings { controller, rows: Vec::new() };
    if let Err(failed) = findings.collect().await {
        findings.rows.push(failed);
    }
    findings.rows
}

impl Findings<'_> {
    async fn collect(&mut self) -> Result<(), PreflightRow> {
        let controller = self.controller;
        let connection = controller.open().await.map_err(|e| self.failed("connect", &e))?;
        self.ok("connect", "TCP and TLS");
        controller.bind(&connection).await.map_err(|e| self.failed("bind", &e))?;
        self.ok("bind", "the service account can log on");
        let base_dn = self.root_dse(&connection).await?;
        self.base_dn(&connection, base_dn).await
    }

    /// The base DN to look at.
    async fn root_dse(&mut self, connection: &Connection) -> Result<String, PreflightRow> {
        let root = self.controller.root_dse(connection).await.map_err(|e| self.failed("root_dse", &e))?;
        let Some(domain) = root.default_naming_context else {
            return Err(self.row("root_dse", PreflightState::Failed, "it names no domain; is it a domain controller?"));
        };
        let name = self.controller.name();
        let host = name.split_once(':').map_or(name, |(host, _port)| host);
        match root.dns_host_name {
            // A reset is followed up at the controller that took it, so a name that stands for several won't do.
            Some(own) if host.parse::<IpAddr>().is_err() && !own.eq_ignore_ascii_case(host) => {
                self.rows.push(self.row(
                    "root_dse",
                    PreflightState::Warning,
                    format!("the domain controller calls itself {own}; write that name into url"),
                ))
            }
            _ => self.ok("root_dse", format!("a domain controller of {domain}")),
        }
        Ok(self.controller.base_dn().map_or(domain, str::to_owned))
    }

    async fn base_dn(&mut self, connection: &Connection, base_dn: String) -> Result<(), PreflightRow> {
        let search = Search {
            base: base_dn,
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: &["objectClass"],
        };
        let (entries, result) = connection.search(&search).await.map_err(|error| {
            self.row("base_dn", PreflightState::Failed, format!("{}: {error}", self.controller.name()))
        })?;
        if result.rc != 0 || entries.is_empty() {
            let detail = format!("{} is not there, or can't be read ({})", search.base, diagnostic(&result));
            return Err(self.row("base_dn", PreflightState::Failed, detail));
        }
        self.ok("base_dn", format!("{} can be read", search.base));
        Ok(())
    }

    fn ok(&mut self, check: &str, detail: impl Into<String>) {
        self.rows.push(self.row(check, PreflightState::Ok, detail));
    }

    fn failed(&self, check: &str, error: &ControllerError) -> PreflightRow {
        self.row(check, PreflightState::Failed, error.to_string())
    }

    fn row(&self, check: &str, state: PreflightState, detail: impl Into<String>) -> PreflightRow {
        let target = self.controller.name().to_owned();
        PreflightRow { check: check.to_owned(), target, state, detail: detail.into() }
    }
}
