//! A node as a service: what systemd, or whoever else has started it, hears of how it is.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::admin::Ops;
use super::bus::Inbox;
use crate::host::service_manager;

/// How often it is looked whether the line is another.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells that the node is alive, as long as its own loops turn, and how it is, for as long as somebody listens.
pub(super) async fn tell(ops: Ops) {
    if !service_manager::is_there() {
        return;
    }
    let (mut alive, mut look) = (interval(service_manager::alive_every()), interval(LOOK_EVERY));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        tokio::select! {
            _ = alive.tick() => service_manager::alive(),
            _ = look.tick() => {
                let line = line(&ops);
                if line != told {
                    service_manager::status(&line);
                    told = line;
                }
            }
        }
    }
}

/// In one line, for people, as `/readyz` has it.
fn line(ops: &Ops) -> String {
    let public = &ops.public;
    let (sessions, commands) = (public.services.sessions.load().sessions, public.dispatcher.in_flight());
    let how = match () {
        () if public.stopping.is_cancelled() => "stops",
        () if public.leaving.is_cancelled() => "lets load balancers take it out",
        () if ops.health.is_ready() => "serves",
        () => "does not serve",
    };
    let remark = ops.remark().map(|remark| format!("; {remark}")).unwrap_or_default();
    format!("{how}; agent sessions: {sessions}, commands in flight: {commands}{remark}")
}
