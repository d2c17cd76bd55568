//! The relay: the code says where it is, and a connection shows whether this host reaches it.

use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use zeroize::Zeroizing;

use super::SetupError;
use super::answers::Answers;
use super::terminal::Terminal;
use crate::agent::config::{ConfigError, Relay};
use crate::agent::enroll::{EnrollError, Enrolment, enroll};
use crate::agent::home::Home;
use crate::clock::{Clock, Random};
use crate::net::outbound::{Access, Outbound};
use crate::protocol::enrolment_code::{EnrolmentCode, InvalidCode};

const CODE: &str = "Enrolment code, as the portal printed it";
const REST: &str = "Enrolment code, the rest of it, or all of it again";

/// The code, and what it says.
pub(super) fn code(given: &mut Answers, terminal: &mut dyn Terminal) -> Result<EnrolmentCode, SetupError> {
    // What has arrived of one that a mail program has broken into lines: each line is an answer of its own.
    let mut arrived = Zeroizing::new(String::new());
    let code: EnrolmentCode = loop {
        let question = if arrived.is_empty() { CODE } else { REST };
        let text = match given.code.take() {
            Some(given) => given.0,
            None => terminal.ask_secret(question, "--code-file")?,
        };
        if text.contains("wb1.") {
            arrived.clear();
        }
        arrived.reserve_exact(text.len() + 1);
        arrived.push_str(&text);
        arrived.push('\n');
        match arrived.parse() {
            Ok(code) => break code,
            Err(error) => {
                terminal.object(&format!("{error}"))?;
                if !matches!(error, InvalidCode::Incomplete { .. }) {
                    arrived.clear();
                }
            }
        }
    };
    terminal.say(&format!("   Relay {}, tenant {}, portal {}", code.relay, code.tenant, code.portal))?;
    Ok(code)
}

/// Until the relay is reached; `given` says then how.
pub(super) async fn reached(
    relay: &str,
    before: &Relay,
    given: &mut Answers,
    terminal: &mut dyn Terminal,
) -> Result<(), SetupError> {
    loop {
        let why = match try_to_reach(relay, before, given).await {
            Ok(proxy) => {
                let through = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
                return Ok(terminal.say(&format!("   It is reached{through}."))?);
            }
            Err(why) => why,
        };
        match why {
            Trouble::Ca(why) => {
                terminal.object(&why)?;
                let what = "A file with the CA that signed its certificate";
                given.relay_ca_file = Some(PathBuf::from(terminal.ask(what, "--relay-ca-file", None)?));
            }
            Trouble::Way(why) => {
                terminal.object(&why)?;
                let what = "An HTTP proxy on the way, http://HOST:PORT, or \"none\"";
                let proxy = terminal.ask(what, "--proxy", Some(given.proxy.as_deref().unwrap_or("none")))?;
                // "none" is an answer, too: the one that is configured, or the environment's, is not used.
                given.proxy = Some(proxy);
            }
        }
    }
}

/// Enrols. A code that has been used, or has expired meanwhile, takes nothing of what was answered away: another one is
/// asked for.
pub(super) async fn redeemed(
    home: &Home,
    mut code: EnrolmentCode,
    access: &Access,
    terminal: &mut dyn Terminal,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<(EnrolmentCode, Enrolment), SetupError> {
    loop {
        match enroll(home, &code, access.clone(), Arc::clone(clock), Arc::clone(random)).await {
            Ok(enrolled) => return Ok((code, enrolled)),
            Err(error) if error.wants_another_code() => {
                terminal.object(&format!("{error}"))?;
                code = self::code(&mut Answers::default(), terminal)?;
            }
            // Whether it was redeemed shows when the same code is sent again.
            Err(error @ EnrollError::NoAnswer { .. }) => {
                terminal.object(&format!("{error}"))?;
                if !terminal.agrees("Try again with the same code?")? {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What may help.
enum Trouble {
    Ca(String),
    Way(String),
}

/// The proxy on the way, if there is one.
async fn try_to_reach(relay: &str, before: &Relay, given: &Answers) -> Result<Option<String>, Trouble> {
    let access = access(before, given).map_err(|error| Trouble::Way(error.to_string()))?;
    let outbound = Outbound::new(&access).map_err(|error| Trouble::Ca(error.to_string()))?;
    let url: Uri = relay.parse().map_err(|_| Trouble::Way(format!("{relay} is not a URL")))?;
    match outbound.reach(&url).await {
        Ok(()) => Ok(outbound.proxy_to(&url).map(ToString::to_string)),
        Err(error) if error.is_tls() => Err(Trouble::Ca(error.to_string())),
        Err(error) => Err(Trouble::Way(error.to_string())),
    }
}

/// As it was answered; where it was not, as it is configured already.
fn access(before: &Relay, given: &Answers) -> Result<Access, ConfigError> {
    let invalid = |detail: String| ConfigError::Invalid { path: "proxy".into(), detail };
    let mut relay = before.clone();
    if let Some(ca_file) = &given.relay_ca_file {
        relay.ca_file = Some(ca_file.clone());
    }
    if let Some(proxy) = &given.proxy {
        let proxy = proxy.clone().try_into().map_err(|e: crate::net::proxy::ProxyUrlError| invalid(e.to_string()))?;
        (relay.proxy, relay.proxy_user, relay.proxy_password_file) = (Some(proxy), None, None);
    }
    relay.access()
}
