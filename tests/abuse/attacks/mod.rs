//! Everything that is tried, one file for each kind.

mod credentials;
mod frames;
mod http2_control;
mod http2_hpack;
mod http2_resets;
mod http2_streams;
mod http2_windows;
mod idle;
mod log;
mod outcomes;
mod registrations;
mod sessions;
mod slow;
mod waits;
mod websocket;

use crate::attack::Attack;

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Attack> {
    [
        &http2_streams::ATTACK,
        &http2_hpack::ATTACK,
        &http2_resets::ATTACK,
        &http2_control::ATTACK,
        &http2_windows::ATTACK,
        &idle::ATTACK,
        &slow::ATTACK,
        &credentials::ATTACK,
        &log::ATTACK,
        &waits::ATTACK,
        &registrations::ATTACK,
        &outcomes::FLOOD,
        &outcomes::FLOOD_OF_REDIS,
        &outcomes::UNREAD,
        &frames::ATTACK,
        &sessions::ATTACK,
        &websocket::ATTACK,
    ]
    .into_iter()
}

/// The one of this name.
pub(crate) fn find(name: &str) -> Option<&'static Attack> {
    all().find(|attack| attack.name == name)
}
