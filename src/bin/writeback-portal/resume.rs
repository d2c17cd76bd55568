//! `writeback-portal resume` without a command: all that have no end, one after the other.

use serde_json::{Value, json};
use writeback_relay::host::{complain_of, error_document, print};
use writeback_relay::portal::report::exit;
use writeback_relay::portal::{Answer, Portal, PortalError};
use writeback_relay::protocol::ids::{CommandId, TenantId};

use super::{Outcome, answered, print_json};

/// One that fails does not keep the others. The exit status is the worst of theirs.
pub(super) async fn all(portal: &Portal, json: bool) -> Outcome<u8> {
    let left = portal.unfinished()?;
    if left.is_empty() && !json {
        print("nothing was left without an answer\n")?;
    }
    let (mut worst, mut rows) = (exit::SUCCEEDED, Vec::new());
    for (tenant, command) in left.into_iter().map(|left| (left.tenant, left.jti)) {
        if !json {
            print(&format!("command {command} of {tenant}: "))?;
        }
        let ended = portal.resume(&tenant, command).await;
        worst = worst.max(ended.as_ref().map_or(exit::ERROR, Answer::exit_status));
        match ended {
            ended if json => rows.push(row(&tenant, command, ended)?),
            Ok(answer) => drop(answered(&answer, &tenant, false)?),
            Err(error) => complain_of("writeback-portal", &error),
        }
    }
    if json {
        print_json(&rows)?;
    }
    Ok(worst)
}

/// What `status` prints of it, and which it is.
fn row(tenant: &TenantId, command: CommandId, ended: Result<Answer, PortalError>) -> Outcome<Value> {
    let mut row = match ended {
        Ok(answer) => serde_json::to_value(answer)?,
        Err(error) => error_document(&error),
    };
    if let Some(members) = row.as_object_mut() {
        members.insert("tenant".to_owned(), json!(tenant));
        members.insert("command".to_owned(), json!(command));
    }
    Ok(row)
}
