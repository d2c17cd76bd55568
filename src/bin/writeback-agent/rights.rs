//! `check` and `grant`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use writeback_relay::agent::config::Config;
use writeback_relay::agent::directory::active_directory::grant::{Administrator, Grant};
use writeback_relay::agent::directory::config as directory;
use writeback_relay::agent::have_checked;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::preflight;
use writeback_relay::clock::System;
use writeback_relay::host;
use writeback_relay::protocol::untrusted::one_line;
use writeback_relay::storage::{PrivateFile, read_text_from};
use zeroize::Zeroizing;

use super::Failure;

#[derive(Args)]
pub(crate) struct GrantArguments {
    /// Give the rights now, as this administrator: user@domain, DOMAIN\user, or a distinguished name.
    #[arg(long, value_name = "ADMINISTRATOR")]
    apply: Option<String>,
    /// Of several domains in [[directory.domains]], only this one.
    #[arg(long)]
    domain: Option<String>,
    /// A file (mode 0600) with the administrator's password; without it, it is asked for, or read from standard input.
    #[arg(long, requires = "apply")]
    password_file: Option<PathBuf>,
}

pub(crate) async fn check(home: &Home, json: bool) -> Result<ExitCode, Failure> {
    let checked = async {
        let path = home.config();
        let config = Config::load(&path)?;
        if let directory::Config::Demo(_) = config.directory(&path)? {
            // It makes its file when it is opened.
            home.may_be_written()?;
        }
        let directory = config.directory(&path)?.open(System::clock(), System::random())?;
        Ok::<_, Failure>(preflight::check(home, &*directory, &config.relay.access()?, &System).await)
    };
    match checked.await {
        Ok(report) => {
            let text = if json { format!("{}\n", preflight::json(&report)) } else { preflight::table(&report) };
            host::print(&text)?;
            tell(home).await;
            Ok(ExitCode::from(preflight::exit_status(&report)))
        }
        Err(error) => {
            host::complain_of("writeback-agent", &*error);
            Ok(ExitCode::from(preflight::NOTHING_CHECKED))
        }
    }
}

pub(crate) async fn grant(home: &Home, arguments: GrantArguments) -> Result<(), Failure> {
    let path = home.config();
    let config = Config::load(&path)?;
    let directory::Config::ActiveDirectory(config) = config.directory(&path)? else {
        return Err(format!("{}: [directory] is no Active Directory, so there are no rights to give", path.display()))?;
    };
    let only = arguments.domain.as_deref();
    let Some(name) = arguments.apply else {
        return Ok(host::print(&Grant::prepare(config, only, None).await?.commands())?);
    };
    let password = match arguments.password_file {
        Some(file) => first_line(&PrivateFile::new(file).read()?),
        None if std::io::stdin().is_terminal() => {
            Zeroizing::new(rpassword::prompt_password(format!("Password of {}: ", one_line(&name)))?)
        }
        None => first_line(&read_text_from(&mut std::io::stdin())?),
    };
    let administrator = Administrator { name, password };
    let given = Grant::prepare(config, only, Some(&administrator)).await?.apply().await;
    // What was given before a unit that refused is there.
    tell(home).await;
    Ok(host::print(&given?)?)
}

/// On standard error: standard output is the report's.
async fn tell(home: &Home) {
    if let Some(said) = have_checked(home).await {
        host::print_error(&format!("{said}\n"));
    }
}

fn first_line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
}
