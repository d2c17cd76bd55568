//! The portal's side on the command line: arguments and prompts; the rest is `writeback_relay::portal`.

mod passwords;
mod resume;

use std::io::{IsTerminal, stdin};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use writeback_relay::clock::System;
use writeback_relay::host::{
    closed_terminal, complain_of, complain_of_usage, forbid_core_dumps, print, print_error, tell_panics,
};
use writeback_relay::portal::report::{agents_table, availability_line, exit, preflight_lines, rotation_table};
use writeback_relay::portal::{Answer, Config, Home, Portal, RotationStatus, Standing, Told, history};
use writeback_relay::protocol::api::PreflightState;
use writeback_relay::protocol::command::{Operation, Options, Subject};
use writeback_relay::protocol::ids::{AgentId, CommandId, InvitationId, PortalId, TenantId};
use writeback_relay::protocol::readiness::Need;
use writeback_relay::telemetry::otlp::{Collector, Exporting};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Invites agents, trusts them, and asks them to reset and change passwords and to unlock accounts.
#[derive(Parser)]
#[command(name = "writeback-portal", version)]
struct Cli {
    /// The portal's folder [default: ~/.config/writeback-portal]
    #[arg(long, env = "WRITEBACK_PORTAL_HOME", global = true)]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make this portal's key; print its public half as a JWK, and say how the relay's operator registers it
    Init {
        /// The portal's id
        #[arg(long)]
        id: PortalId,
        /// The relay's public URL
        #[arg(long)]
        relay: String,
        /// A file with a private CA to trust beside the system's
        #[arg(long)]
        ca_file: Option<PathBuf>,
        /// Nothing but the JWK, for programs
        #[arg(long)]
        json: bool,
    },
    /// Print this portal's public key as a JWK: for the operator of a relay that does not know it (any more)
    PublicKey {
        /// For programs; the JWK is the same
        #[arg(long)]
        json: bool,
    },
    /// Print an enrolment code for one agent; it is a secret, valid for 24 hours, once
    Invite {
        tenant: TenantId,
        /// Trust whoever enrols with the code, without comparing fingerprints
        #[arg(long)]
        auto_approve: bool,
        #[arg(long)]
        json: bool,
    },
    /// List a tenant's agents, and verify the new ones
    Agents {
        tenant: TenantId,
        #[arg(long)]
        json: bool,
    },
    /// Trust an agent, after comparing its fingerprint
    Approve {
        tenant: TenantId,
        agent: AgentId,
        /// What the agent printed when it enrolled; asked for if it is not given
        #[arg(long)]
        fingerprint: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Never trust an agent again
    Revoke {
        tenant: TenantId,
        agent: AgentId,
        #[arg(long)]
        json: bool,
    },
    /// Have an agent check its directory now, and show what it found
    Check {
        tenant: TenantId,
        agent: AgentId,
        #[arg(long)]
        json: bool,
    },
    /// Change this portal's key: the new one is carried to every agent, and in use when all have acknowledged it. Run it
    /// again to see how far it is
    RotateKeys {
        /// Only show who has acknowledged; finish if all have
        #[arg(long, conflicts_with = "finish")]
        status: bool,
        /// Don't wait for agents that have not acknowledged: they take no command until they have connected again
        #[arg(long)]
        finish: bool,
        #[arg(long)]
        json: bool,
    },
    /// Ask whether a reset is possible now
    Availability {
        tenant: TenantId,
        /// Only for this account: a userPrincipalName or an objectGUID
        #[arg(long)]
        user: Option<String>,
        /// Only this operation
        #[arg(long, value_parser = PossibleValuesParser::new(Operation::ALL.map(Operation::as_str)))]
        operation: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Set a new password, which is read from the terminal, or as one line from standard input
    Reset(Reset),
    /// Change a password with the current one; both are read from the terminal, or as two lines from standard input, the
    /// current one first
    Change(Request),
    /// Unlock an account; its password stays
    Unlock(Request),
    /// List the commands that were sent from here within the last seven days: when, for whose account, to which agent
    Sent {
        tenant: TenantId,
        /// Only those for this agent
        #[arg(long)]
        agent: Option<AgentId>,
        #[arg(long)]
        json: bool,
    },
    /// Finish what a process left that was ended before it had an answer: the very same command is sent again, and executed
    /// once at most. Without a command: all of them
    Resume {
        /// With COMMAND: only this one
        #[arg(requires = "command")]
        tenant: Option<TenantId>,
        #[arg(requires = "tenant")]
        command: Option<CommandId>,
        #[arg(long)]
        json: bool,
    },
    /// Ask what became of a command that was sent from here
    Status {
        tenant: TenantId,
        command: CommandId,
        /// How long to wait for news, in seconds
        #[arg(long, default_value_t = 0)]
        wait: u64,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Reset {
    #[command(flatten)]
    request: Request,
    /// Unlock the account too
    #[arg(long)]
    unlock: bool,
    /// The user must choose another password at the next logon
    #[arg(long)]
    force_change: bool,
    /// Refuse a password that the account had before
    #[arg(long)]
    enforce_history: bool,
}

/// Whose account, and how to wait.
#[derive(Args)]
struct Request {
    tenant: TenantId,
    /// A userPrincipalName or an objectGUID
    user: String,
    /// How long to wait, in seconds; nothing is executed after that time
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(2..=300))]
    wait: u64,
    #[arg(long)]
    json: bool,
}

impl Request {
    fn subject(&self) -> Outcome<Subject> {
        Ok(Subject::from_text(&self.user).map_err(|e| format!("{:?}: {e}", self.user))?)
    }

    fn wait(&self) -> Duration {
        Duration::from_secs(self.wait)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tell_panics();
    // clap's own status for wrong usage is 2, which is "rejected" here.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help, which has colours at a terminal.
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return exit::SUCCEEDED.into();
        }
        // An argument stands in it, and somebody else may have chosen that.
        Err(error) => {
            complain_of_usage("writeback-portal", &error.render());
            return exit::ERROR.into();
        }
    };
    match traced(cli).await {
        Ok(status) => status.into(),
        Err(error) => {
            complain_of("writeback-portal", &*error);
            exit::ERROR.into()
        }
    }
}

/// Spans are sent if the environment says where to: `OTEL_EXPORTER_OTLP_ENDPOINT`.
async fn traced(cli: Cli) -> Outcome<u8> {
    let exporting = Exporting::start("writeback-portal", Collector::default(), &System, System::random())?;
    let ended = run(cli).await;
    exporting.finish().await;
    ended
}

async fn run(cli: Cli) -> Outcome<u8> {
    forbid_core_dumps()?;
    // Whoever waits for an answer may close his terminal: the command is on its way, and what comes of it is kept.
    let _closed = closed_terminal()?;
    let home = cli.home.or_else(default_home).ok_or("$HOME is not set: say where with --home")?;
    if let Command::Init { id, relay, ca_file, json } = cli.command {
        let ca_file = ca_file.map(std::fs::canonicalize).transpose().map_err(|e| format!("--ca-file: {e}"))?;
        let public = Home::new(&home).init(&Config { id: id.clone(), relay, ca_file }, &System)?;
        let jwk = serde_json::to_string(&public)?;
        // The key alone on standard output, so that it can be sent into a file.
        print(&format!("{jwk}\n"))?;
        if json {
            return Ok(exit::SUCCEEDED);
        }
        print_error(&format!(
            "That is the portal's public key. The relay's operator registers it, with a --tenant for each tenant that \
             it serves:\n\nwriteback-relay portal add {id} --key - --tenant TENANT <<'END'\n{jwk}\nEND\n"
        ));
        return Ok(exit::SUCCEEDED);
    }
    let portal = Portal::open(&home, System::clock(), System::random())?;
    match cli.command {
        Command::Init { .. } => {}
        Command::PublicKey { json: _ } => print(&format!("{}\n", serde_json::to_string(&portal.public_key()?)?))?,
        Command::Invite { tenant, auto_approve, json } => {
            let invited = portal.invite(&tenant, auto_approve).await?;
            let code = invited.to_text()?;
            if json {
                print_json(&Invited { invitation: invited.invitation, code: &code })?;
                return Ok(exit::SUCCEEDED);
            }
            print(&format!("{}\n", &*code))?;
            print_error(
                "This is a secret. On the agent's host, within 24 hours, run `writeback-agent setup`, and paste it when it \
                 asks.\n",
            );
        }
        Command::Agents { tenant, json } => {
            let agents = portal.agents(&tenant).await?;
            if json { print_json(&agents)? } else { print(&agents_table(&agents))? }
        }
        Command::Approve { tenant, agent, fingerprint, json } => {
            let fingerprint = match fingerprint {
                Some(given) => given,
                None => compare(&portal, &tenant, agent).await?,
            };
            let told = portal.approve(&tenant, agent, &fingerprint).await?;
            return if json {
                told_json(agent, "trusted", &told)
            } else {
                decided(&told, &format!("agent {agent} is trusted"))
            };
        }
        Command::Revoke { tenant, agent, json } => {
            let told = portal.revoke(&tenant, agent).await?;
            return if json {
                told_json(agent, "revoked", &told)
            } else {
                decided(&told, &format!("agent {agent} is revoked"))
            };
        }
        Command::Check { tenant, agent, json } => {
            let report = portal.check(&tenant, agent).await?;
            if json {
                print_json(&report)?
            } else {
                print(&preflight_lines(&report))?
            }
            let failed = report.worst() == PreflightState::Failed;
            return Ok(if failed { exit::NOT_DONE } else { exit::SUCCEEDED });
        }
        Command::RotateKeys { status, finish, json } => {
            let status = if finish {
                let before = portal.rotation_status().await?;
                portal.finish_rotation().await?;
                // Who is left behind is said.
                RotationStatus { finished: true, ..before }
            } else if status {
                portal.rotation_status().await?
            } else {
                portal.rotate_keys().await?
            };
            if json {
                print_json(&status)?
            } else {
                print(&rotation_table(&status))?
            }
            return Ok(if status.finished { exit::SUCCEEDED } else { exit::NOT_DONE });
        }
        Command::Availability { tenant, user, operation, json } => {
            let account =
                user.map(|user| Subject::from_text(&user).map_err(|e| format!("{user:?}: {e}"))).transpose()?;
            let named = |one: &Operation| operation.as_deref() == Some(one.as_str());
            let operation = Operation::ALL.into_iter().find(named);
            let availability = portal.availability_of(&tenant, Need { account: account.as_ref(), operation }).await?;
            if json {
                print_json(&availability)?
            } else {
                print(&availability_line(&availability))?
            }
            return Ok(if availability.available { exit::SUCCEEDED } else { exit::NOT_DONE });
        }
        Command::Reset(Reset { request, unlock, force_change, enforce_history }) => {
            let subject = request.subject()?;
            let options = Options { unlock, force_change_at_next_logon: force_change, enforce_history };
            let answer = portal.reset(&request.tenant, &subject, passwords::new()?, options, request.wait()).await?;
            return answered(&answer, &request.tenant, request.json);
        }
        Command::Change(request) => {
            let (subject, current, new) = (request.subject()?, passwords::current()?, passwords::new()?);
            let answer = portal.change(&request.tenant, &subject, current, new, request.wait()).await?;
            return answered(&answer, &request.tenant, request.json);
        }
        Command::Unlock(request) => {
            let answer = portal.unlock(&request.tenant, &request.subject()?, request.wait()).await?;
            return answered(&answer, &request.tenant, request.json);
        }
        Command::Sent { tenant, agent, json } => {
            let sent = portal.history(&tenant, agent)?;
            if json { print_json(&sent)? } else { print(&history::lines(&sent))? }
        }
        Command::Resume { tenant, command, json } => match tenant.zip(command) {
            Some((tenant, command)) => {
                let answer = portal.resume(&tenant, command).await?;
                return answered(&answer, &tenant, json);
            }
            None => return resume::all(&portal, json).await,
        },
        Command::Status { tenant, command, wait, json } => {
            let answer = portal.status(&tenant, command, Duration::from_secs(wait)).await?;
            return answered(&answer, &tenant, json);
        }
    }
    Ok(exit::SUCCEEDED)
}

fn default_home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/writeback-portal"))
}

fn print_json<T: Serialize>(value: &T) -> Outcome<()> {
    Ok(print(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}

fn decided(told: &Told, decision: &str) -> Outcome<u8> {
    print(&told.for_people(decision))?;
    Ok(if matches!(told, Told::Yes) { exit::SUCCEEDED } else { exit::ERROR })
}

/// An enrolment code, for programs: a secret.
#[derive(Serialize)]
struct Invited<'a> {
    invitation: InvitationId,
    code: &'a str,
}

/// A decision that holds here, for programs.
#[derive(Serialize)]
struct Decided {
    agent: AgentId,
    /// `trusted` or `revoked`.
    standing: &'static str,
    /// Whether the relay has heard of it. If not, `agents` tells it again.
    relay_told: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

fn told_json(agent: AgentId, standing: &'static str, told: &Told) -> Outcome<u8> {
    let message = match told {
        Told::Yes => None,
        Told::No(error) => Some(error.to_string()),
    };
    print_json(&Decided { agent, standing, relay_told: message.is_none(), message })?;
    Ok(if matches!(told, Told::Yes) { exit::SUCCEEDED } else { exit::ERROR })
}

fn answered(answer: &Answer, tenant: &TenantId, json: bool) -> Outcome<u8> {
    if json {
        print_json(answer)?
    } else {
        print(&answer.for_people(tenant.as_str()))?
    }
    Ok(answer.exit_status())
}

/// Shows the fingerprint, and gives it back if the person at the terminal says that it is the agent's.
async fn compare(portal: &Portal, tenant: &TenantId, agent: AgentId) -> Outcome<String> {
    let found = portal.agents(tenant).await?.into_iter().find(|a| a.agent == agent);
    let found = found.ok_or_else(|| format!("agent {agent} is not known in tenant {tenant}"))?;
    if !matches!(found.standing, Some(Standing::Attested { .. } | Standing::Trusted { .. })) {
        // Refused anyway, and says why.
        return Ok(found.fingerprint);
    }
    if !stdin().is_terminal() {
        return Err("there is no terminal to ask at: give what the agent printed with --fingerprint".into());
    }
    print(&format!("{}\nIs this exactly what the agent printed on its host? [yes/no] ", found.fingerprint))?;
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    if line.trim() == "yes" { Ok(found.fingerprint) } else { Err("not approved".into()) }
}
