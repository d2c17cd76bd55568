//! Every limit of the protocol, each with its reason.

use std::time::Duration;

/// A command's JWS, in bytes. Two passwords of 256 characters in a sealed object still fit.
pub const MAX_COMMAND_BYTES: usize = 8 * 1024;

/// A frame, in bytes. A larger one would stay in the socket's buffers for as long as the session lives.
pub const MAX_FRAME_BYTES: usize = 16 * 1024;

/// A password, in Unicode characters: Active Directory stores 256.
pub const MAX_PASSWORD_CHARS: usize = 256;

/// An agent's host name, in characters; the rest is cut off. It is for people.
pub const MAX_NAME_CHARS: usize = 64;

/// An agent checks its directory so often in a minute, at most, for whoever wants to know: each check is some dozens of
/// searches for every domain controller. A person who mends something looks more seldom.
pub const CHECKS_PER_MINUTE: u8 = 12;

/// How long a command lives when nobody says otherwise: a person is waiting before a screen.
pub const DEFAULT_COMMAND_LIFETIME: Duration = Duration::from_secs(120);

/// The longest a command may live. Nothing stale is ever executed.
pub const MAX_COMMAND_LIFETIME: Duration = Duration::from_secs(300);

/// The longest an assertion may live: what is stolen from a log is soon worth nothing.
pub const MAX_ASSERTION_LIFETIME: Duration = Duration::from_secs(300);

/// How far ahead another host's clock may be when it says "issued at". `exp` has no leeway.
pub const MAX_CLOCK_AHEAD: Duration = Duration::from_secs(60);

/// How long an invitation can be redeemed.
pub const INVITATION_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How long the relay keeps a command and its outcome.
pub const OUTCOME_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long an agent's journal keeps an entry after the command's `exp`: as long as any relay may still ask.
pub const JOURNAL_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Rotations that are kept of one agent or portal, the newest: whoever has been away for more of them is set up anew.
pub const KEPT_ROTATIONS: usize = 8;

/// How long an old key is still good after a new one has taken its place: longer than any command that was signed, or
/// sealed, with it.
pub const KEY_OVERLAP: Duration = Duration::from_secs(3600);

/// Sealed plaintext is padded to a multiple of this, in bytes, so that its length tells nothing of the password's.
pub const SEALED_BLOCK_BYTES: usize = 512;
