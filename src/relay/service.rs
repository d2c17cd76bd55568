//! A node as a service: what systemd, or whoever else has started it, hears of how it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::http::Public;
use super::store::Health;
use crate::host::service_manager;

/// How often it is looked whether the line is another.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells that the node is alive, as long as its own loops turn, and how it is, for ever.
pub(super) async fn tell(public: Arc<Public>, health: Health) {
    let (mut alive, mut look) = (interval(service_manager::alive_every()), interval(LOOK_EVERY));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        tokio::select! {
            _ = alive.tick() => service_manager::alive(),
            _ = look.tick() => {
                let line = line(&public, &health);
                if line != told {
                    service_manager::status(&line);
                    told = line;
                }
            }
        }
    }
}

/// In one line, for people, as `/readyz` has it.
fn line(public: &Public, health: &Health) -> String {
    let (sessions, commands) = (public.services.sessions.list().len(), public.dispatcher.in_flight());
    let how = match () {
        () if public.stopping.is_cancelled() => "stops".to_owned(),
        () if !health.is_ready() => "does not serve: its own messages do not reach it".to_owned(),
        () => health.remark().map_or_else(|| "serves".to_owned(), |remark| format!("serves, and: {remark}")),
    };
    format!("{how}; agent sessions: {sessions}, commands in flight: {commands}")
}
