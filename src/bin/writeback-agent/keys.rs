//! The agent's keys, and the portals it trusts.

use clap::Args;
use serde::Serialize;
use writeback_relay::agent::config::Config;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::{Trusted, distrust, rotate_keys, trust, trusted, trusted_list};
use writeback_relay::clock::System;
use writeback_relay::host;
use writeback_relay::protocol::enrolment_code::{EnrolmentCode, InvalidCode};
use writeback_relay::protocol::ids::PortalId;
use writeback_relay::storage::read_text_from;
use zeroize::Zeroizing;

use super::{Failure, print_json};

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct TrustArguments {
    /// The code that the further portal printed, or "-" to read it from standard input.
    code: Option<String>,
    /// Take no more commands from this portal.
    #[arg(long, value_name = "PORTAL")]
    remove: Option<PortalId>,
    /// Show the portals whose commands the agent takes.
    #[arg(long)]
    list: bool,
}

impl TrustArguments {
    pub(super) fn changes(&self) -> bool {
        !self.list
    }
}

/// A code as it was given, or from standard input.
pub(super) fn read_code(given: String) -> Result<EnrolmentCode, Failure> {
    let mut text = Zeroizing::new(given);
    if text.as_str() == "-" {
        text = read_text_from(&mut std::io::stdin())?;
    }
    // What people give instead is a file's name.
    let hint = "give the code itself, or - and the code on standard input: writeback-agent enroll - < FILE";
    Ok(text.parse().map_err(|error: InvalidCode| format!("{error}; {hint}"))?)
}

pub(super) async fn rotate(home: &Home, json: bool) -> Result<(), Failure> {
    let access = Config::load(&home.config())?.relay.access()?;
    let rotated = rotate_keys(home, access, System::clock(), System::random()).await?;
    if json {
        return print_json(&rotated);
    }
    Ok(host::print(&format!(
        "the agent has new keys (rotation {})\nfingerprint       {}\nPortals follow by themselves; nothing has to be \
         compared again.\n",
        rotated.seq, rotated.fingerprint
    ))?)
}

pub(super) async fn change_trust(home: &Home, what: TrustArguments, json: bool) -> Result<(), Failure> {
    if let Some(code) = what.code {
        let (code, access) = (read_code(code)?, Config::load(&home.config())?.relay.access()?);
        let trusted = trust(home, &code, access, System::clock(), System::random()).await?;
        if json {
            return print_json(&trusted);
        }
        let Trusted { portal, agent, fingerprint } = trusted;
        return Ok(host::print(&format!(
            "portal {portal} is trusted from now on\nfingerprint       {fingerprint}\n\nBefore it sends commands, \
             somebody at that portal compares the fingerprint and approves the agent:\n  writeback-portal approve {} \
             {agent}\n",
            code.tenant
        ))?);
    }
    if let Some(portal) = what.remove {
        distrust(home, &portal, System::clock())?;
        if json {
            return print_json(&Removed { portal });
        }
        return Ok(host::print(&format!("no more commands are taken from portal {portal}\n"))?);
    }
    let portals = trusted(home)?;
    if json { print_json(&portals) } else { Ok(host::print(&trusted_list(&portals))?) }
}

/// A portal that is not trusted any more, for programs.
#[derive(Serialize)]
struct Removed {
    portal: PortalId,
}
