//! The agent: arguments, configuration, signals; nothing else.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use writeback_relay::agent::config::Config;
use writeback_relay::agent::directory::active_directory::grant::{Administrator, Grant};
use writeback_relay::agent::directory::config as directory;
use writeback_relay::agent::events::{self, Filter, Follower};
use writeback_relay::agent::home::{DEFAULT_HOME, Home};
use writeback_relay::agent::{Agent, AgentError, Options, enroll, preflight, status, support_bundle};
use writeback_relay::clock::System;
use writeback_relay::host::{self, StopSignals};
use writeback_relay::protocol::api::AgentStatus;
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::storage::PrivateFile;
use writeback_relay::telemetry;
use zeroize::Zeroizing;

/// How often a followed event log is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// For a service manager: starting again is no use.
const STOPPED_FOR_GOOD: u8 = 3;

/// Takes password resets from the relay to the directory.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The agent's folder.
    #[arg(long, default_value = DEFAULT_HOME, env = "WRITEBACK_AGENT_HOME", global = true)]
    home: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Redeem an enrolment code that the portal printed.
    Enroll {
        /// The code, or "-" to read it from standard input, where no other user of this host sees it.
        code: String,
    },
    /// Run until SIGTERM or SIGINT.
    Run,
    /// Show who the agent is and what it did last.
    Status,
    /// Show what the event log tells, oldest first.
    Events {
        /// Only events with this id; may be given several times.
        #[arg(long = "id", value_name = "EVENT_ID")]
        ids: Vec<u16>,
        /// At most so many of the last ones.
        #[arg(long, short = 'n', default_value_t = 50)]
        lines: usize,
        /// Go on with what comes, until it is stopped.
        #[arg(long, short)]
        follow: bool,
        /// Print the lines as they are in the file: JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Write what whoever helps you needs to know into one text file that holds no key and no password.
    SupportBundle {
        /// The file; standard output if it is "-".
        #[arg(default_value = "writeback-agent-support.txt")]
        file: PathBuf,
    },
    /// Check whether resets can work: files, the relay, each domain controller, each right on each unit. The exit status is
    /// 0 if all is well, 1 with a warning, 2 with a failure, 3 if nothing could be checked.
    Check {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Print the commands that give the service account its rights, or give them.
    Grant(GrantArguments),
}

#[derive(Args)]
struct GrantArguments {
    /// Give the rights now, as this administrator: user@domain, DOMAIN\user, or a distinguished name.
    #[arg(long, value_name = "ADMINISTRATOR")]
    apply: Option<String>,
    /// A file (mode 0600) with the administrator's password; without it, it is asked for, or read from standard input.
    #[arg(long, requires = "apply")]
    password_file: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { home, action } = Arguments::parse();
    telemetry::log_to_stderr(if matches!(action, Action::Run) { "info" } else { "error" });
    let home = Home::new(home);
    match act(&home, action).await {
        Ok(status) => status,
        Err(error) => {
            eprintln!("writeback-agent: {error}");
            match error.downcast_ref::<AgentError>() {
                Some(error) if error.is_for_good() => ExitCode::from(STOPPED_FOR_GOOD),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn act(home: &Home, action: Action) -> Result<ExitCode, Failure> {
    host::forbid_core_dumps()?;
    match action {
        Action::Enroll { code } => enrol(home, code).await?,
        Action::Run => run(home).await?,
        Action::Status => host::print(&status(home)?)?,
        Action::Check { json } => return check(home, json).await,
        Action::Grant(arguments) => grant(home, arguments).await?,
        Action::Events { ids, lines, follow, json } => show_events(home, &Filter { ids }, lines, follow, json).await?,
        Action::SupportBundle { file } => bundle(home, &file)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn check(home: &Home, json: bool) -> Result<ExitCode, Failure> {
    let checked = async {
        let path = home.config();
        let config = Config::load(&path)?;
        let directory = config.directory(&path)?.open(System::clock(), System::random())?;
        Ok::<_, Failure>(preflight::check(home, &*directory, &config.relay.access()?, &System).await)
    };
    match checked.await {
        Ok(report) => {
            let text = if json { format!("{}\n", preflight::json(&report)) } else { preflight::table(&report) };
            host::print(&text)?;
            Ok(ExitCode::from(preflight::exit_status(&report)))
        }
        Err(error) => {
            eprintln!("writeback-agent: {error}");
            Ok(ExitCode::from(preflight::NOTHING_CHECKED))
        }
    }
}

async fn grant(home: &Home, arguments: GrantArguments) -> Result<(), Failure> {
    let path = home.config();
    let config = Config::load(&path)?;
    let directory::Config::ActiveDirectory(config) = config.directory(&path)? else {
        return Err(format!("{}: [directory] is no Active Directory, so there are no rights to give", path.display()))?;
    };
    let Some(name) = arguments.apply else {
        return Ok(host::print(&Grant::prepare(config, None).await?.commands())?);
    };
    let password = match arguments.password_file {
        Some(file) => first_line(&PrivateFile::new(file).read()?),
        None if std::io::stdin().is_terminal() => {
            Zeroizing::new(rpassword::prompt_password(format!("Password of {name}: "))?)
        }
        None => {
            let mut text = Zeroizing::new(String::new());
            std::io::stdin().read_to_string(&mut text)?;
            first_line(&text)
        }
    };
    let administrator = Administrator { name, password };
    Ok(host::print(&Grant::prepare(config, Some(&administrator)).await?.apply().await?)?)
}

fn first_line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
}

async fn enrol(home: &Home, code: String) -> Result<(), Failure> {
    let mut text = Zeroizing::new(code);
    if text.as_str() == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text)?;
    }
    let code: EnrolmentCode = text.parse()?;
    let config = Config::load(&home.config())?;
    let enrolled = enroll(home, &code, config.relay.access()?, System::clock(), System::random()).await?;
    let mut said = format!("enrolled as agent {}\nfingerprint       {}\n", enrolled.agent, enrolled.fingerprint);
    if enrolled.status == AgentStatus::Pending {
        said.push_str(&format!(
            "\nBefore it gets commands, somebody at the portal compares the fingerprint and approves the agent:\n  \
             writeback-portal approve {} {}\n",
            code.tenant, enrolled.agent
        ));
    }
    said.push_str(&format!("\nThen start it:\n  writeback-agent --home {} run\n", home.folder().display()));
    Ok(host::print(&said)?)
}

async fn show_events(home: &Home, filter: &Filter, count: usize, follow: bool, json: bool) -> Result<(), Failure> {
    let shown = |line: String| if json { line } else { events::for_people(&line) };
    let (lines, mut follower) = Follower::open(&home.events())?;
    let mut lines: Vec<_> = lines.into_iter().filter(|line| filter.takes(line)).collect();
    for line in lines.split_off(lines.len().saturating_sub(count)) {
        host::print(&format!("{}\n", shown(line)))?;
    }
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        for line in follower.lines()?.into_iter().filter(|line| filter.takes(line)) {
            host::print(&format!("{}\n", shown(line)))?;
        }
    }
}

fn bundle(home: &Home, file: &Path) -> Result<(), Failure> {
    let text = support_bundle(home, &System)?;
    if file == Path::new("-") {
        return Ok(host::print(&text)?);
    }
    PrivateFile::new(file).replace(&text)?;
    Ok(host::print(&format!("{} is written; read it before you send it\n", file.display()))?)
}

async fn run(home: &Home) -> Result<(), Failure> {
    let path = home.config();
    let config = Config::load(&path)?;
    let directory = config.directory(&path)?.open(System::clock(), System::random())?;
    let access = config.relay.access()?;
    let options = Options {
        ca_file: access.ca_file,
        via: access.via,
        sessions: config.relay.sessions,
        parallel: config.execution.parallel,
        resets_per_hour: config.execution.resets_per_hour,
        ..Options::default()
    };
    let mut signals = StopSignals::catch()?;
    let agent = Agent::open(home, directory, options, System::clock(), System::random())?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        asked.cancel();
        // Whoever asks twice does not want to wait; the journal knows where to go on.
        signals.next().await;
        std::process::exit(1);
    });
    Ok(agent.run(stop).await?)
}
