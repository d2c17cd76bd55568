//! What happens on the stage.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::world::{OLD_PASSWORD, USER, World, say};
use crate::portal::{Answer, RelayClient};
use crate::protocol::command::{Command, Operation, Options, Subject};
use crate::protocol::ids::CommandId;
use crate::protocol::jose::{Validity, base64url};
use crate::protocol::limits::DEFAULT_COMMAND_LIFETIME;
use crate::protocol::outcome::{Outcome, Status};
use crate::protocol::password::Password;
use crate::protocol::problem::ProblemCode;
use crate::protocol::untrusted::Untrusted;

const NEW_PASSWORD: &str = "Fresh-Start-2026!";

type Fallible<T> = Result<T, Box<dyn Error>>;

pub(super) async fn tell(world: &mut World) -> Fallible<()> {
    come_in(world).await?;
    reset(world).await?;
    refused_by_policy(world).await?;
    tampered(world).await?;
    seen_by_the_relay(world)?;
    gone_away(world).await
}

fn chapter(title: &str) {
    say("");
    say(&format!("== {title}"));
}

fn expect(holds: bool, what: &str) -> Fallible<()> {
    if holds { Ok(()) } else { Err(format!("the demo did not go as it should: {what}").into()) }
}

async fn come_in(world: &mut World) -> Fallible<()> {
    chapter("An agent comes in");
    let code = world.portal.invite(&world.tenant, false).await?;
    say(&format!("portal     invitation {} made; the code goes to the agent's administrator", code.invitation));
    let enrolment = world.enroll(&code).await?;
    world.show_events()?;
    say(&format!("agent      enrolled, fingerprint {}", enrolment.fingerprint));
    world.start_agent()?;
    let shown = world.portal.agents(&world.tenant).await?;
    let found = shown.iter().find(|agent| agent.agent == enrolment.agent).ok_or("the agent is not listed")?;
    say(&format!("portal     the attestation holds; the relay shows fingerprint {}", found.fingerprint));
    expect(found.fingerprint == enrolment.fingerprint, "the fingerprints are the same")?;
    let told = world.portal.approve(&world.tenant, enrolment.agent, &enrolment.fingerprint).await?;
    expect(matches!(told, crate::portal::Told::Yes), "the relay was told of the approval")?;
    say("portal     the fingerprints are the same: approved");
    available(world, true).await?;
    world.show_events()?;
    say("portal     availability: a reset is possible now");
    Ok(())
}

/// Waits until the relay says that a reset is possible, or is not.
async fn available(world: &World, expected: bool) -> Fallible<()> {
    let deadline = Instant::now() + PATIENCE;
    while world.portal.availability(&world.tenant).await?.available != expected {
        expect(Instant::now() < deadline, "the agent connects")?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn ask(world: &World, password: &str) -> Fallible<Answer> {
    let (subject, password) = (Subject::upn(USER)?, Password::new(password.to_owned())?);
    let options = Options { unlock: true, ..Options::default() };
    Ok(world.portal.reset(&world.tenant, &subject, password, options, DEFAULT_COMMAND_LIFETIME).await?)
}

fn concluded(answer: Answer) -> Fallible<(Outcome, Untrusted)> {
    match answer {
        Answer::Concluded { outcome, trace_id } => Ok((outcome, trace_id)),
        other => Err(format!("the demo did not go as it should: {other:?}").into()),
    }
}

fn show(outcome: &Outcome, trace_id: &Untrusted, took: Duration) {
    say(&format!(
        "portal     signed by the agent: {} ({}), event {}, retry_safe {}, {} ms; support code {}",
        outcome.code.cell(),
        outcome.detail.quoted(),
        outcome.event_id,
        outcome.retry_safe,
        took.as_millis(),
        trace_id.cell()
    ));
}

async fn reset(world: &mut World) -> Fallible<()> {
    chapter(&format!("{USER} has forgotten the password"));
    let begun = Instant::now();
    let (outcome, trace_id) = concluded(ask(world, NEW_PASSWORD).await?)?;
    let took = begun.elapsed();
    world.show_events()?;
    show(&outcome, &trace_id, took);
    let (old, new) = (world.directory.password_is(USER, OLD_PASSWORD), world.directory.password_is(USER, NEW_PASSWORD));
    let fits = |holds: bool| if holds { "is taken" } else { "is refused" };
    say(&format!("directory  the old password {}, the new one {}", fits(old), fits(new)));
    expect(outcome.status == Status::Succeeded && new && !old, "the password is reset")
}

async fn refused_by_policy(world: &mut World) -> Fallible<()> {
    chapter("A password that the directory's policy refuses");
    let begun = Instant::now();
    let (outcome, trace_id) = concluded(ask(world, "short").await?)?;
    let took = begun.elapsed();
    world.show_events()?;
    show(&outcome, &trace_id, took);
    expect(outcome.status == Status::Rejected && outcome.event_id == 33008, "the policy refuses it")?;
    expect(world.directory.password_is(USER, NEW_PASSWORD), "the password is still the one before")
}

async fn tampered(world: &World) -> Fallible<()> {
    chapter("Somebody on the way alters a command");
    let agent = world.portal.agents(&world.tenant).await?.into_iter().next().ok_or("there is no agent")?;
    let config = world.portal_home.config()?;
    let key = world.portal_home.signing_key()?;
    let command = Command {
        iss: config.id.clone(),
        aud: agent.agent,
        tenant: world.tenant.clone(),
        jti: CommandId::new(&*world.clock, &*world.random),
        validity: Validity::starting(world.clock.now(), DEFAULT_COMMAND_LIFETIME),
        sub_id: Subject::upn(USER)?,
        operation: Operation::UnlockAccount,
        options: Options::default(),
        sealed: None,
    };
    let signed = command.sign(&key)?;
    let altered = Command { sub_id: Subject::upn("administrator@corp.example")?, ..command }.sign(&key)?;
    // The claims of one, under the signature of the other.
    let (claims, signature) = (altered.rsplit_once('.'), signed.rsplit_once('.'));
    let (Some((claims, _)), Some((_, signature))) = (claims, signature) else { return Err("not a JWS".into()) };
    let relay = RelayClient::new(&config, key, world.clock.clone(), world.random.clone())?;
    let refused = relay.submit(&world.tenant, &format!("{claims}.{signature}"), Duration::from_secs(5)).await;
    let error = refused.err().ok_or("the altered command was taken")?;
    expect(error.is(ProblemCode::BadSignature), "the altered command is refused for its signature")?;
    say(&format!("relay      {error}"));
    Ok(())
}

/// Looks through everything the relay has on disk.
fn seen_by_the_relay(world: &World) -> Fallible<()> {
    chapter("What the relay could see of the password");
    let mut needles = Vec::new();
    for password in [NEW_PASSWORD, OLD_PASSWORD] {
        let utf16: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
        needles.extend([password.as_bytes().to_vec(), utf16, base64url(password.as_bytes()).into_bytes()]);
    }
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(world.relay_files())? {
        let contents = fs::read(entry?.path())?;
        (files, bytes) = (files + 1, bytes + contents.len());
        for needle in &needles {
            let found = contents.windows(needle.len()).any(|window| window == needle.as_slice());
            expect(!found, "no password is in the relay's files")?;
        }
    }
    expect(bytes > 0 && Path::exists(&world.relay_files().join("ledger.redb")), "the relay has files")?;
    say(&format!(
        "relay      its {files} files ({} KiB) hold neither password, as text, UTF-16 or base64",
        bytes / 1024
    ));
    say("relay      it saw who, when and how it ended; the password was sealed to the agent's key");
    Ok(())
}

async fn gone_away(world: &mut World) -> Fallible<()> {
    chapter("The agent goes away");
    world.stop_agent().await?;
    world.show_events()?;
    available(world, false).await?;
    let begun = Instant::now();
    let answer = ask(world, "Another-Fine-2026!").await?;
    let took = begun.elapsed();
    let Answer::Undeliverable { reason, .. } = &answer else {
        return Err(format!("the demo did not go as it should: {answer:?}").into());
    };
    say(&format!(
        "portal     undeliverable ({}), said after {} ms: nothing was sent, safe to repeat",
        reason.cell(),
        took.as_millis()
    ));
    expect(took < Duration::from_secs(2), "it is refused at once")?;
    world.start_agent()?;
    available(world, true).await?;
    world.show_events()?;
    say("portal     the agent is back, and a reset is possible again");
    Ok(())
}
