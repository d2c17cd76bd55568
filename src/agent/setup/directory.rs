//! The directory, the service account and the units, each tried at a domain controller as soon as it is known.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::SetupError;
use super::answers::{Answers, Secret};
use super::terminal::Terminal;
use super::written::{self, Found};
use crate::agent::directory::active_directory::ActiveDirectory;
use crate::agent::directory::{Check, Directory, Finding};
use crate::agent::home::Home;
use crate::clock::Clock;
use crate::protocol::api::PreflightState;

/// Which answer is no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blamed {
    Directory,
    Certificate,
    Account,
    Units,
}

fn blamed(check: Check) -> Option<Blamed> {
    match check {
        Check::Srv | Check::Dns | Check::Tcp | Check::RootDse => Some(Blamed::Directory),
        Check::Tls => Some(Blamed::Certificate),
        Check::Bind => Some(Blamed::Account),
        Check::BaseDn => Some(Blamed::Units),
        // Rights and policies are looked at when everything is there.
        _ => None,
    }
}

/// Answers that a domain controller has confirmed. The service account's password is in its file then.
pub(super) async fn found(
    home: &Home,
    given: &mut Answers,
    terminal: &mut dyn Terminal,
    clock: &dyn Clock,
) -> Result<Found, SetupError> {
    terminal.say("2. The directory")?;
    let mut known = given.clone();
    let mut directory = answer(&mut known.directory, terminal, WHERE)?;
    // Before more is asked: whoever has mistyped a name still has it before him.
    loop {
        match unreachable(home, &directory, given, clock).await {
            Ok(controller) => break terminal.say(&format!("   {controller} answers."))?,
            Err((blamed, why)) => {
                terminal.object(&why)?;
                match blamed {
                    Blamed::Certificate => certificate(given, terminal)?,
                    _ => directory = answer(&mut None, terminal, WHERE)?,
                }
            }
        }
    }
    terminal.say("3. The service account")?;
    let mut account = answer(&mut known.service_account, terminal, WHO)?;
    let mut password = secret(&mut known.service_account_password, terminal)?;
    let mut units: Option<Vec<String>> = None;
    loop {
        let found = Found {
            directory: directory.clone(),
            ca_file: given.directory_ca_file.clone(),
            service_account: account.clone(),
            password: password.clone(),
            units: units.clone().unwrap_or_default(),
        };
        match trouble(home, &found, clock).await? {
            None if units.is_some() => return Ok(found),
            None => {
                terminal.say(&format!("   {account} can log on.\n4. The units"))?;
                units = Some(match known.units.take() {
                    Some(units) => units,
                    None => split(&terminal.ask(UNITS.0, UNITS.1, Some(WHOLE_DOMAIN))?),
                });
            }
            Some((blamed, why)) => {
                terminal.object(&why)?;
                match blamed {
                    Blamed::Directory => directory = answer(&mut None, terminal, WHERE)?,
                    Blamed::Certificate => certificate(given, terminal)?,
                    Blamed::Account => {
                        account = terminal.ask(WHO.0, WHO.1, Some(&account))?;
                        password = secret(&mut None, terminal)?;
                    }
                    Blamed::Units => units = Some(split(&terminal.ask(UNITS.0, UNITS.1, Some(WHOLE_DOMAIN))?)),
                }
            }
        }
    }
}

type Question = (&'static str, &'static str);

const WHERE: Question =
    ("The domain (corp.example), or domain controllers (ldaps://dc1.corp.example, ...)", "--directory");
const WHO: Question = ("Service account (svc-writeback@corp.example)", "--service-account");
const UNITS: Question = ("Units to serve (OU=Staff,DC=corp,DC=example; ...)", "--unit");
const WHOLE_DOMAIN: &str = "the whole domain";

fn answer(given: &mut Option<String>, terminal: &mut dyn Terminal, asked: Question) -> Result<String, SetupError> {
    match given.take() {
        Some(given) => Ok(given),
        None => terminal.ask(asked.0, asked.1, None),
    }
}

fn secret(given: &mut Option<Secret>, terminal: &mut dyn Terminal) -> Result<Zeroizing<String>, SetupError> {
    match given.take() {
        Some(given) => Ok(given.0),
        None => terminal.ask_secret("Its password", "--service-account-password-file"),
    }
}

fn certificate(given: &mut Answers, terminal: &mut dyn Terminal) -> Result<(), SetupError> {
    let (what, flag) = ("A PEM file with the CA that signed its certificate", "--directory-ca-file");
    given.directory_ca_file = Some(PathBuf::from(terminal.ask(what, flag, None)?));
    Ok(())
}

/// The first controller that answers, without a logon; or what keeps this host from all of them.
async fn unreachable(
    home: &Home,
    directory: &str,
    given: &Answers,
    clock: &dyn Clock,
) -> Result<String, (Blamed, String)> {
    let found = Found {
        directory: directory.to_owned(),
        ca_file: given.directory_ca_file.clone(),
        service_account: String::new(),
        password: Zeroizing::default(),
        units: Vec::new(),
    };
    let config = written::directory(home, &found).map_err(why_of)?;
    let findings = ActiveDirectory::look_for(&config, clock).await.map_err(|error| why_of(error.to_string()))?;
    if let Some(trouble) = first_failure(&findings) {
        return Err(trouble);
    }
    let answers =
        findings.iter().find(|finding| finding.check == Check::Tls && finding.state != PreflightState::Warning);
    Ok(answers.map_or_else(|| directory.to_owned(), |finding| finding.target.clone()))
}

/// Distinguished names hold commas.
fn split(units: &str) -> Vec<String> {
    let units = units.split(';').map(str::trim);
    units.filter(|unit| !unit.is_empty() && *unit != WHOLE_DOMAIN).map(str::to_owned).collect()
}

/// The first thing that keeps the agent from the directory, and which answer it is about.
async fn trouble(home: &Home, found: &Found, clock: &dyn Clock) -> Result<Option<(Blamed, String)>, SetupError> {
    let config = match written::directory(home, found) {
        Ok(config) => config,
        Err(why) => return Ok(Some(why_of(why))),
    };
    written::keep_password(home, found)?;
    let findings = match ActiveDirectory::new(&config) {
        Ok(directory) => directory.preflight(clock).await,
        Err(error) => return Ok(Some(why_of(error.to_string()))),
    };
    Ok(first_failure(&findings))
}

fn first_failure(findings: &[Finding]) -> Option<(Blamed, String)> {
    let failed = |finding: &&Finding| finding.state == PreflightState::Failed;
    findings.iter().filter(failed).find_map(|finding| {
        let remedy = finding.remedy.as_ref().map(|mending| format!(" Mend it: {}", mending.how)).unwrap_or_default();
        let place = format!("{}: ", finding.target);
        let place = if finding.detail.starts_with(&place) { "" } else { &place };
        Some((blamed(finding.check)?, format!("{place}{}.{remedy}", finding.detail)))
    })
}

/// An answer that no network was needed for, by the field that the error names.
fn why_of(error: String) -> (Blamed, String) {
    let field = error.split(':').next().unwrap_or_default();
    let blamed = match field {
        "bind_user" | "bind_password_file" => Blamed::Account,
        "ca_file" => Blamed::Certificate,
        "base_dn" => Blamed::Units,
        _ => Blamed::Directory,
    };
    (blamed, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_separated_by_semicolons() {
        assert_eq!(split("OU=A,DC=b; OU=C,DC=d ;"), ["OU=A,DC=b", "OU=C,DC=d"]);
        assert!(split(WHOLE_DOMAIN).is_empty());
    }

    #[test]
    fn a_wrong_field_leads_back_to_its_question() {
        assert_eq!(why_of("bind_user: \"x\" is not ...".into()).0, Blamed::Account);
        assert_eq!(why_of("ca_file: x: ...".into()).0, Blamed::Certificate);
        assert_eq!(why_of("url: x: this is not a URL".into()).0, Blamed::Directory);
    }
}
