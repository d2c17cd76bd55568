//! The directory, the service account and the units, each tried at a domain controller as soon as it is known.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::SetupError;
use super::answers::{Answers, Secret};
use super::logon::Tries;
use super::present::Present;
use super::terminal::Terminal;
use super::units;
use super::written::Found;
use crate::agent::directory::active_directory::{ActiveDirectory, Config, ConfigError, Lockout, NameServer};
use crate::agent::directory::{Check, Directory, Finding};
use crate::agent::home::Home;
use crate::clock::Clock;
use crate::protocol::api::PreflightState;

/// Which answer is no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blamed {
    Directory,
    /// It may be right, and nobody who was asked knows it.
    Names,
    /// It may be right, and the port is another.
    Port,
    /// Passwords would travel in the clear.
    Encryption,
    Certificate,
    Account,
    Units,
}

/// What is wrong with it, for people.
type Trouble = (Blamed, String);

fn blamed(check: Check) -> Option<Blamed> {
    match check {
        Check::Srv | Check::Dns => Some(Blamed::Names),
        Check::Tcp => Some(Blamed::Port),
        Check::RootDse => Some(Blamed::Directory),
        Check::Tls => Some(Blamed::Certificate),
        Check::Bind => Some(Blamed::Account),
        Check::BaseDn => Some(Blamed::Units),
        // Rights and policies are looked at when everything is there.
        _ => None,
    }
}

type Question = (&'static str, &'static str);

const WHERE: Question =
    ("The domain (corp.example), or domain controllers (ldaps://dc1.corp.example, ...)", "--directory");
const NAME_SERVERS: Question = ("Name servers that know the domain (10.0.0.53, ...)", "--name-server");
const THIS_HOSTS: &str = "this host's own";
const CA: Question = ("A file with the CA that signed its certificate", "--directory-ca-file");
const WHO: Question = ("Service account (svc-writeback@corp.example)", "--service-account");
const PASSWORD: Question = ("Its password", "--service-account-password-file");

/// Where the directory is: asked, if it is not given.
pub(super) fn asked(
    given: &mut Answers,
    before: Option<&Present>,
    terminal: &mut dyn Terminal,
) -> Result<String, SetupError> {
    match given.directory.take() {
        Some(given) => Ok(given),
        None => terminal.ask(WHERE.0, WHERE.1, before.map(|before| before.directory.as_str())),
    }
}

/// Answers that a domain controller has confirmed.
pub(super) async fn found(
    home: &Home,
    directory: String,
    given: &mut Answers,
    before: Option<&Present>,
    terminal: &mut dyn Terminal,
    clock: &dyn Clock,
) -> Result<Found, SetupError> {
    let mut found = Found {
        directory,
        start_tls: given.start_tls.or(before.map(|before| before.start_tls)).unwrap_or_default(),
        name_servers: given
            .name_servers
            .take()
            .or(before.map(|before| before.name_servers.clone()))
            .unwrap_or_default(),
        ca_file: given.directory_ca_file.take().or(before.and_then(|before| before.ca_file.clone())),
        password_file: before.map(|before| before.password_file.clone()),
        ..Found::default()
    };
    if given.start_tls.is_none() && found.directory.contains("ldaps://") {
        found.start_tls = false;
    }
    reached(home, &mut found, terminal, clock).await?;
    terminal.say("3. The service account")?;
    let kept = account(&mut found, given, before, terminal)?;
    logged_on(home, &mut found, kept, given, before, terminal, clock).await?;
    Ok(found)
}

/// Until a domain controller answers. Before more is asked: whoever has mistyped a name still has it before him.
async fn reached(
    home: &Home,
    found: &mut Found,
    terminal: &mut dyn Terminal,
    clock: &dyn Clock,
) -> Result<(), SetupError> {
    loop {
        match unreachable(home, found, clock).await {
            Ok(controller) => return Ok(terminal.say(&format!("   {controller} answers."))?),
            Err(trouble) => mend(found, trouble, terminal)?,
        }
    }
}

/// Asks again for what is to blame.
fn mend(found: &mut Found, (blamed, why): Trouble, terminal: &mut dyn Terminal) -> Result<(), SetupError> {
    terminal.object(&why)?;
    match blamed {
        Blamed::Certificate => found.ca_file = Some(PathBuf::from(terminal.ask(CA.0, CA.1, None)?)),
        Blamed::Encryption if terminal.agrees("Turn TLS on inside that connection (StartTLS)?")? => {
            found.start_tls = true
        }
        _ => {
            let said = terminal.ask(WHERE.0, WHERE.1, Some(&found.directory))?;
            let same = std::mem::replace(&mut found.directory, said) == found.directory;
            if found.directory.contains("ldaps://") {
                found.start_tls = false;
            }
            match blamed {
                // Whoever stays with it may know why it can't be found from here.
                Blamed::Names if same => found.name_servers = name_servers(&found.name_servers, terminal)?,
                Blamed::Port if same && !found.start_tls && !found.directory.contains("://") => {
                    found.start_tls = terminal.agrees("Try port 389, with TLS turned on inside (StartTLS)?")?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn name_servers(before: &[String], terminal: &mut dyn Terminal) -> Result<Vec<String>, SetupError> {
    let default = if before.is_empty() { THIS_HOSTS.to_owned() } else { before.join(", ") };
    loop {
        let answer = terminal.ask(NAME_SERVERS.0, NAME_SERVERS.1, Some(&default))?;
        if answer == THIS_HOSTS {
            return Ok(Vec::new());
        }
        let servers = answer.split([',', ';', ' ']).map(str::trim).filter(|server| !server.is_empty());
        let servers: Vec<_> = servers.map(str::to_owned).collect();
        match servers.iter().find_map(|server| NameServer::try_from(server.clone()).err()) {
            None => return Ok(servers),
            Some(why) => terminal.object(&why)?,
        }
    }
}

/// Who logs on. The password that is kept stays in use if that is answered.
fn account(
    found: &mut Found,
    given: &mut Answers,
    before: Option<&Present>,
    terminal: &mut dyn Terminal,
) -> Result<Option<Zeroizing<String>>, SetupError> {
    let present = before.map(|before| before.service_account.as_str());
    found.service_account = match given.service_account.take() {
        Some(given) => given,
        None => terminal.ask(WHO.0, WHO.1, present)?,
    };
    let same = present.is_some_and(|present| present.eq_ignore_ascii_case(&found.service_account));
    let kept = before.and_then(|before| before.password.clone()).filter(|_| same);
    found.password = match (given.service_account_password.take(), &kept) {
        (Some(Secret(given)), _) => Some(given),
        (None, Some(_)) if before.is_some_and(|before| !before.is_asked_for) => None,
        (None, Some(_)) => terminal.ask_new_secret(PASSWORD.0)?,
        (None, None) => Some(terminal.ask_secret(PASSWORD.0, PASSWORD.1)?),
    };
    Ok(kept)
}

/// Until the service account can log on and see the units.
async fn logged_on(
    home: &Home,
    found: &mut Found,
    mut kept: Option<Zeroizing<String>>,
    given: &mut Answers,
    before: Option<&Present>,
    terminal: &mut dyn Terminal,
    clock: &dyn Clock,
) -> Result<(), SetupError> {
    let mut tries = Tries::default();
    let mut listed = None;
    loop {
        let password = found.password.clone().or_else(|| kept.clone()).unwrap_or_default();
        let (directory, trouble) = match open(home, found, &password) {
            Ok(directory) => {
                // One try, at one controller, before all of them are asked.
                let trouble = match directory.log_on(&found.service_account, &password).await {
                    Err(why) => Some((Blamed::Account, why)),
                    Ok(()) => first_failure(&directory.preflight(clock).await),
                };
                (Some(directory), trouble)
            }
            Err(trouble) => (None, Some(trouble)),
        };
        let asked_for_units = listed.is_some();
        match (trouble, directory) {
            (None, _) if asked_for_units => return Ok(()),
            (None, Some(directory)) => {
                terminal.say(&format!("   {} can log on.\n4. The units", found.service_account))?;
                listed = Some(Vec::new());
                found.units = match given.units.take() {
                    Some(units) => units,
                    None => {
                        let present = before.map(|before| before.units.clone()).unwrap_or_default();
                        if terminal.is_attended() {
                            let there = directory.units().await;
                            units::show(&there, terminal)?;
                            listed = Some(there);
                        }
                        units::asked(listed.as_deref().unwrap_or_default(), &present, terminal)?
                    }
                };
            }
            (Some((Blamed::Account, why)), _) => {
                terminal.object(&why)?;
                tries.refused(&found.service_account, seen_by(home, before, found).await, terminal)?;
                found.service_account = terminal.ask(WHO.0, WHO.1, Some(&found.service_account))?;
                found.password = Some(terminal.ask_secret(PASSWORD.0, PASSWORD.1)?);
                kept = None;
            }
            (Some((Blamed::Units, why)), _) => {
                terminal.object(&why)?;
                found.units = units::asked(listed.as_deref().unwrap_or_default(), &[], terminal)?;
            }
            (Some(trouble), _) => mend(found, trouble, terminal)?,
            (None, None) => return Err(SetupError::Stopped),
        }
    }
}

/// How near the account is to being locked, if the one that served before can still log on and see it.
async fn seen_by(home: &Home, before: Option<&Present>, found: &Found) -> Option<Lockout> {
    let before = before.filter(|before| !before.service_account.eq_ignore_ascii_case(&found.service_account))?;
    let as_before = Found { service_account: before.service_account.clone(), ..found.clone() };
    open(home, &as_before, before.password.as_ref()?).ok()?.lockout(&found.service_account).await
}

/// The first controller that answers, without a logon; or what keeps this host from all of them.
async fn unreachable(home: &Home, found: &Found, clock: &dyn Clock) -> Result<String, Trouble> {
    let config = config(home, found)?;
    let findings = ActiveDirectory::look_for(&config, clock).await.map_err(|error| wrong_setting(&error))?;
    if let Some(trouble) = first_failure(&findings) {
        return Err(trouble);
    }
    let answers =
        findings.iter().find(|finding| finding.check == Check::Tls && finding.state != PreflightState::Warning);
    Ok(answers.map_or_else(|| found.directory.clone(), |finding| finding.target.clone()))
}

fn open(home: &Home, found: &Found, password: &Zeroizing<String>) -> Result<ActiveDirectory, Trouble> {
    ActiveDirectory::answered(&config(home, found)?, password).map_err(|error| wrong_setting(&error))
}

/// As it would be configured. Of everything that is answered only addresses have a form of their own.
fn config(home: &Home, found: &Found) -> Result<Config, Trouble> {
    found.config(home).map_err(|why| (Blamed::Names, why))
}

/// The first thing that keeps the agent from the directory. How a running agent would be mended is not said: the question
/// that follows says what to do here.
fn first_failure(findings: &[Finding]) -> Option<Trouble> {
    let failed = |finding: &&Finding| finding.state == PreflightState::Failed;
    findings.iter().filter(failed).find_map(|finding| {
        let place = format!("{}: ", finding.target);
        let place = if finding.detail.starts_with(&place) { "" } else { &place };
        Some((blamed(finding.check)?, format!("{place}{}.", finding.detail)))
    })
}

/// An answer that no network was needed for.
fn wrong_setting(error: &ConfigError) -> Trouble {
    let blamed = match error {
        ConfigError::BindUser(_) | ConfigError::BindPassword(_) | ConfigError::EmptyPassword(_) => Blamed::Account,
        ConfigError::Tls(_) => Blamed::Certificate,
        ConfigError::BaseDn(_) => Blamed::Units,
        ConfigError::Names(_) => Blamed::Names,
        ConfigError::NoTls(url) => {
            return (Blamed::Encryption, format!("{url} would send passwords without encryption"));
        }
        _ => Blamed::Directory,
    };
    let said = error.to_string();
    // Settings have names in agent.toml, which nobody has seen yet.
    let said = said.split_once(": ").filter(|(field, _)| !field.contains([' ', '/'])).map_or(&*said, |(_, rest)| rest);
    (blamed, said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_answer_leads_back_to_its_question_without_the_setting_s_name() {
        let wrong = |error: ConfigError| wrong_setting(&error);
        let (blamed, why) = wrong(ConfigError::BindUser("svc".into()));
        assert!(blamed == Blamed::Account && why.starts_with("\"svc\" is not "), "{why}");
        let (blamed, why) = wrong(ConfigError::NoTls("ldap://dc1".into()));
        assert!(blamed == Blamed::Encryption && why.starts_with("ldap://dc1 would"), "{why}");
        let (blamed, why) = wrong(ConfigError::Url { url: "x".into(), detail: "this is not a URL" });
        assert!(blamed == Blamed::Directory && why.starts_with("x: this is not a URL"), "{why}");
        assert_eq!(wrong(ConfigError::BaseDn("Staff".into())).0, Blamed::Units);
    }
}
