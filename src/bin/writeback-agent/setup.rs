//! `setup`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use writeback_relay::agent::home::Home;
use writeback_relay::agent::setup::{self, Answers, Nobody, Person, Secret, Terminal};
use writeback_relay::clock::System;
use writeback_relay::storage::{PrivateFile, read_text_from};
use zeroize::Zeroizing;

use super::Failure;

#[derive(Args)]
pub(crate) struct SetupArguments {
    /// A TOML file (mode 0600) with answers, named as these flags, with _ in place of -, and the secrets themselves: code,
    /// service_account_password, grant_password. Flags count more.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// A file (mode 0600) with the enrolment code, or "-" for standard input.
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
    /// A file with the relay's private CA: PEM, DER or PKCS#7.
    #[arg(long, value_name = "FILE")]
    relay_ca_file: Option<PathBuf>,
    /// An HTTP proxy on the way to the relay: http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// The domain's DNS name, or domain controllers as ldaps://HOST, separated by commas; or "demo": a directory for trials,
    /// without any domain controller.
    #[arg(long)]
    directory: Option<String>,
    /// Turn TLS on inside a plain connection to the domain controllers, port 389 (StartTLS).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    start_tls: Option<bool>,
    /// A name server that knows the domain, if this host's own do not; may be given several times. "" is this host's own.
    #[arg(long = "name-server", value_name = "ADDRESS")]
    name_servers: Option<Vec<String>>,
    /// A file with the CA of the domain controllers' certificates: PEM, DER or PKCS#7.
    #[arg(long, value_name = "FILE")]
    directory_ca_file: Option<PathBuf>,
    /// The service account: svc@corp.example, CORP\\svc, or a distinguished name.
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// A file (mode 0600) with its password.
    #[arg(long, value_name = "FILE")]
    service_account_password_file: Option<PathBuf>,
    /// A unit to serve; may be given several times. "" is the whole domain.
    #[arg(long = "unit", value_name = "DN")]
    units: Option<Vec<String>>,
    /// With --directory demo: an account; may be given several times.
    #[arg(long = "account", value_name = "UPN")]
    accounts: Option<Vec<String>>,
    /// Give the service account the rights that it lacks, as this administrator: user@domain, DOMAIN\\user, or a
    /// distinguished name.
    #[arg(long, value_name = "ADMINISTRATOR")]
    grant: Option<String>,
    /// A file (mode 0600) with the administrator's password, which is used once and written nowhere.
    #[arg(long, value_name = "FILE", requires = "grant")]
    grant_password_file: Option<PathBuf>,
    /// Enrol even if the check is red.
    #[arg(long)]
    despite_failures: bool,
    /// Ask nothing: whatever is not given is an error.
    #[arg(long)]
    no_questions: bool,
}

pub(crate) async fn set_up(home: &Home, arguments: SetupArguments) -> Result<(), Failure> {
    let from_file = arguments.answers.as_deref().map(Answers::read).transpose()?.unwrap_or_default();
    let flags = Answers {
        code: arguments.code_file.as_deref().map(secret).transpose()?,
        relay_ca_file: arguments.relay_ca_file,
        proxy: arguments.proxy,
        directory: arguments.directory,
        start_tls: arguments.start_tls,
        name_servers: arguments.name_servers.map(without_empty),
        directory_ca_file: arguments.directory_ca_file,
        service_account: arguments.service_account,
        service_account_password: arguments.service_account_password_file.as_deref().map(secret).transpose()?,
        units: arguments.units.map(without_empty),
        accounts: arguments.accounts.map(without_empty),
        grant: arguments.grant,
        grant_password: arguments.grant_password_file.as_deref().map(secret).transpose()?,
        despite_failures: arguments.despite_failures,
    };
    let nobody = arguments.no_questions || !std::io::stdin().is_terminal();
    let terminal: &mut dyn Terminal = if nobody { &mut Nobody } else { &mut Person };
    Ok(setup::set_up(home, flags.or(from_file), terminal, System::clock(), System::random()).await?)
}

/// "" says that there is none, where what is not given is asked for.
fn without_empty(values: Vec<String>) -> Vec<String> {
    values.into_iter().filter(|value| !value.is_empty()).collect()
}

/// One line, from a file that only its owner reads, or from standard input.
fn secret(file: &Path) -> Result<Secret, Failure> {
    let text =
        if file == Path::new("-") { read_text_from(&mut std::io::stdin())? } else { PrivateFile::new(file).read()? };
    Ok(Secret(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())))
}
