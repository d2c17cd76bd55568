//! A portal against a relay that is honest, broken, or taken over.

mod command_line;
mod fake_relay;
mod repetition;
mod untrusted;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use writeback_relay::clock::{Clock, System, UnixTime};
use writeback_relay::portal::selection::in_order_for;
use writeback_relay::portal::{
    Agent, Answer, ClientError, Config, Doubt, Home, Portal, PortalError, Standing, Told, Warning,
};
use writeback_relay::protocol::api::{
    AgentStatus, AgentView, CommandState, PreflightReport, PreflightRow, PreflightState,
};
use writeback_relay::protocol::command::{Command, Operation, Options, Subject};
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::enrolment_code::Secret;
use writeback_relay::protocol::ids::{CommandId, ObjectId, TenantId};
use writeback_relay::protocol::jose::SigningKey;
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::password::Password;
use writeback_relay::protocol::problem::ProblemCode;
use writeback_relay::protocol::rotation::{About, AgentRotation};
use writeback_relay::protocol::scope::{Scope, ServedDomain};
use writeback_relay::protocol::sealed::open_for;

use fake_relay::{Call, FakeAgent, FakeRelay, Reply, view};

const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(60);
const PASSWORD: &str = " Kö nig\u{1f600} ";

struct World {
    dir: TempDir,
    relay: FakeRelay,
    portal: Portal,
}

fn tenant() -> TenantId {
    "contoso".parse().unwrap()
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let relay = FakeRelay::start(dir.path()).await;
        let portal = relay.portal(&dir.path().join("portal"));
        Self { dir, relay, portal }
    }

    /// An agent that enrolled and was approved, as it should be.
    async fn trusted_agent(&self) -> Arc<FakeAgent> {
        let agent = Arc::new(FakeAgent::new());
        let code = self.portal.invite(&tenant(), false).await.unwrap();
        self.relay.list(agent.enrolled(&code));
        assert!(matches!(self.portal.approve(&tenant(), agent.id, &agent.fingerprint()).await.unwrap(), Told::Yes));
        agent
    }

    async fn reset(&self, wait: Duration) -> Result<Answer, PortalError> {
        let subject = Subject::upn("jane@corp.example").unwrap();
        let password = Password::new(PASSWORD.to_owned()).unwrap();
        let tenant = tenant();
        let reset = self.portal.reset(&tenant, &subject, password, Options::default(), wait);
        tokio::time::timeout(DEADLINE, reset).await.expect("the reset did not end")
    }

    fn trust_file(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("portal/trust.json")).unwrap()
    }

    async fn only_agent(&self) -> Agent {
        let mut agents = self.portal.agents(&tenant()).await.unwrap();
        assert_eq!(agents.len(), 1);
        agents.remove(0)
    }
}

fn succeeds(agent: &Arc<FakeAgent>) -> impl FnOnce(&Command) -> Reply + Send + use<> {
    let agent = Arc::clone(agent);
    move |command| {
        let opened = open_for(command, &agent.sealing).unwrap();
        assert_eq!(opened.new_password.expose(), PASSWORD, "the password was changed on the way");
        view(command, CommandState::Concluded, Some(agent.outcome(command, Code::PasswordReset)))
    }
}

fn concluded(answer: &Answer) -> &str {
    match answer {
        Answer::Concluded { outcome, .. } => outcome.code.as_data(),
        other => panic!("not concluded: {other:?}"),
    }
}

fn doubt(answer: Answer) -> Doubt {
    match answer {
        Answer::Unknown { doubt, .. } => doubt,
        other => panic!("not unknown: {other:?}"),
    }
}

#[tokio::test]
async fn an_invitation_tells_the_relay_a_hash_and_the_secret_is_destroyed_once_the_attestation_held() {
    let world = World::new().await;
    let code = world.portal.invite(&tenant(), false).await.unwrap();
    let told = world.relay.invitations();
    assert_eq!((told[0].id, &told[0].token_sha256), (code.invitation, &code.token.hash()));
    let secret = serde_json::to_value(&code.secret).unwrap().as_str().unwrap().to_owned();
    assert!(world.trust_file().contains(&secret));

    let agent = FakeAgent::new();
    world.relay.list(agent.enrolled(&code));
    let seen = world.only_agent().await;
    assert!(matches!(seen.standing, Some(Standing::Attested { .. })) && seen.warnings.is_empty(), "{seen:?}");
    assert_eq!(seen.fingerprint, agent.fingerprint());
    assert!(!world.trust_file().contains(&secret));
    // Verified is not approved: nothing is sealed to it yet.
    assert!(
        matches!(world.reset(SHORT).await.unwrap(), Answer::Undeliverable { reason, .. } if reason == "agent_pending")
    );
}

#[tokio::test]
async fn an_invitation_that_the_relay_did_not_take_leaves_no_secret_behind() {
    let world = World::new().await;
    world.relay.set_deaf(true);
    let error = world.portal.invite(&tenant(), true).await.unwrap_err().to_string();
    for part in ["The store is not available", "store_unavailable", "what the test asked for", "trace-of-a-problem"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!world.trust_file().contains("secret"));
}

#[tokio::test]
async fn a_reset_believes_the_agents_own_word() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    world.relay.then(|command| view(command, CommandState::Delivering, None));
    world.relay.then(succeeds(&agent));
    assert_eq!(concluded(&world.reset(LONG).await.unwrap()), "password_reset");
    assert!(matches!(world.relay.calls().last(), Some(Call::Look)));
}

#[tokio::test]
async fn a_change_seals_both_passwords_and_an_unlock_none() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    let (tenant, subject) = (tenant(), Subject::upn("jane@corp.example").unwrap());
    let signer = Arc::clone(&agent);
    world.relay.then(move |command| {
        assert_eq!((command.operation, command.options), (Operation::ChangePassword, Options::default()));
        let opened = open_for(command, &signer.sealing).unwrap();
        assert_eq!(opened.current_password.unwrap().expose(), "Current 1");
        assert_eq!(opened.new_password.expose(), PASSWORD);
        view(command, CommandState::Concluded, Some(signer.outcome(command, Code::PasswordChanged)))
    });
    let [current, new] = ["Current 1", PASSWORD].map(|text| Password::new(text.to_owned()).unwrap());
    let answer = world.portal.change(&tenant, &subject, current, new, LONG).await.unwrap();
    assert_eq!((concluded(&answer), answer.exit_status()), ("password_changed", 0));
    world.relay.then(move |command| {
        assert_eq!((command.operation, &command.sealed), (Operation::UnlockAccount, &None));
        view(command, CommandState::Concluded, Some(agent.outcome(command, Code::AccountUnlocked)))
    });
    let answer = world.portal.unlock(&tenant, &subject, LONG).await.unwrap();
    assert_eq!((concluded(&answer), answer.exit_status()), ("account_unlocked", 0));
}

#[tokio::test]
async fn auto_approval_trusts_and_tells_the_relay() {
    let world = World::new().await;
    let agent = Arc::new(FakeAgent::new());
    let code = world.portal.invite(&tenant(), true).await.unwrap();
    world.relay.list(agent.enrolled(&code));
    world.relay.then(succeeds(&agent));
    assert_eq!(concluded(&world.reset(LONG).await.unwrap()), "password_reset");
    assert_eq!(world.relay.calls()[0], Call::Approve(agent.id));
}

#[tokio::test]
async fn a_wrong_fingerprint_and_an_unattested_agent_are_not_approved() {
    let world = World::new().await;
    let (agent, intruder) = (FakeAgent::new(), FakeAgent::new());
    let code = world.portal.invite(&tenant(), false).await.unwrap();
    // The relay knows the token's hash and the invitation, but not the secret.
    let mut forged = code.clone();
    forged.secret = Secret::new([9; 32]);
    world.relay.list(intruder.enrolled(&forged));
    let seen = world.only_agent().await;
    assert!(matches!(&seen.warnings[..], [Warning::AttestationFails { .. }]), "{seen:?}");
    let refused = world.portal.approve(&tenant(), intruder.id, &intruder.fingerprint()).await;
    assert!(matches!(refused, Err(PortalError::NotAttested { .. })), "{refused:?}");

    // The failed try has not used up the invitation.
    world.relay.forget_all_agents();
    world.relay.list(agent.enrolled(&code));
    let refused = world.portal.approve(&tenant(), agent.id, &intruder.fingerprint()).await;
    assert!(matches!(refused, Err(PortalError::WrongFingerprint { .. })), "{refused:?}");
    let spelled = agent.fingerprint().to_lowercase().replace('-', " ");
    assert!(matches!(world.portal.approve(&tenant(), agent.id, &spelled).await.unwrap(), Told::Yes));

    // Keys that came later are not approved with the fingerprint of the first.
    world.relay.change(agent.id, |view| view.sealing_key = intruder.keys().sealing);
    let refused = world.portal.approve(&tenant(), agent.id, &agent.fingerprint()).await;
    assert!(matches!(refused, Err(PortalError::NotAttested { .. })), "{refused:?}");

    // An invitation is for one agent.
    world.relay.list(intruder.enrolled(&code));
    let agents = world.portal.agents(&tenant()).await.unwrap();
    assert!(matches!(&agents[1].warnings[..], [Warning::NoInvitation { .. }]), "{agents:?}");
}

#[tokio::test]
async fn a_list_in_pages_is_followed_to_its_end_and_one_without_an_end_is_given_up() {
    let world = World::new().await;
    let first = world.trusted_agent().await;
    let code = world.portal.invite(&tenant(), false).await.unwrap();
    let second = FakeAgent::new();
    world.relay.list(second.enrolled(&code));
    world.relay.set_pages(1, false);
    let ids = |agents: Vec<Agent>| agents.into_iter().map(|agent| agent.agent).collect::<Vec<_>>();
    assert_eq!(ids(world.portal.agents(&tenant()).await.unwrap()), [first.id, second.id]);
    world.relay.set_pages(1, true);
    let endless = world.portal.agents(&tenant()).await.unwrap_err().to_string();
    assert!(endless.contains("a list of agents that has an end"), "{endless}");
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up_before_it_fills_the_portals_memory() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    // As much as one answer may have.
    world.relay.change(agent.id, |view| view.name = "x".repeat(8 * 1024 * 1024 - 16 * 1024).into());
    world.relay.set_pages(1, true);
    let endless = world.portal.agents(&tenant()).await.unwrap_err().to_string();
    assert!(endless.contains("a list of agents of at most 64 MiB in all"), "{endless}");
}

#[tokio::test]
async fn a_relay_that_slips_in_keys_or_approvals_gets_no_password() {
    let world = World::new().await;
    let (agent, intruder) = (world.trusted_agent().await, FakeAgent::new());
    world.relay.change(agent.id, |view| view.sealing_key = intruder.keys().sealing);
    let seen = world.only_agent().await;
    let shown = intruder.keys().sealing;
    assert!(matches!(&seen.warnings[..], [Warning::KeysDiffer { .. }]), "{seen:?} {shown:?}");
    assert_eq!(seen.fingerprint, agent.fingerprint());
    let mut code = world.portal.invite(&tenant(), false).await.unwrap();
    code.secret = Secret::new([9; 32]);
    let mut view = intruder.enrolled(&code);
    view.status = AgentStatus::Approved;
    world.relay.list(view);
    let agents = world.portal.agents(&tenant()).await.unwrap();
    assert!(agents[1].warnings.contains(&Warning::NotApprovedHere), "{agents:?}");

    assert!(matches!(world.reset(SHORT).await.unwrap(), Answer::Undeliverable { .. }));
    assert!(world.relay.submitted().is_empty());
}

#[tokio::test]
async fn a_relay_that_swaps_an_agents_key_at_its_enrolment_is_found_by_the_attestation() {
    let world = World::new().await;
    let own = FakeAgent::new();
    let swaps: [fn(&mut AgentView, &FakeAgent); 3] = [
        |view, own| view.sealing_key = own.keys().sealing,
        |view, own| view.signing_key = own.keys().signing,
        |view, own| view.agent = own.id,
    ];
    for swap in swaps {
        // Nobody compares fingerprints here: only the attestation is in the way, which is genuine and about other keys.
        let code = world.portal.invite(&tenant(), true).await.unwrap();
        let mut view = FakeAgent::new().enrolled(&code);
        view.status = AgentStatus::Approved;
        swap(&mut view, &own);
        world.relay.list(view);
        let seen = world.only_agent().await;
        let found = seen.warnings.iter().any(|warning| matches!(warning, Warning::AttestationFails { .. }));
        assert!(found && seen.standing.is_none(), "{seen:?}");
        assert!(matches!(world.reset(SHORT).await.unwrap(), Answer::Undeliverable { .. }));
        world.relay.forget_all_agents();
    }
    assert!(world.relay.submitted().is_empty());
}

#[tokio::test]
async fn nothing_is_sealed_to_a_revoked_agent_whatever_the_relay_says() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    world.relay.set_deaf(true);
    let told = world.portal.revoke(&tenant(), agent.id).await.unwrap();
    assert!(matches!(told, Told::No(ClientError::Refused { .. })), "{told:?}");
    // The relay still lists it as approved and online.
    assert!(matches!(world.reset(SHORT).await.unwrap(), Answer::Undeliverable { .. }));
    assert!(world.relay.submitted().is_empty());
    let again = world.portal.approve(&tenant(), agent.id, &agent.fingerprint()).await;
    assert!(matches!(again, Err(PortalError::Revoked { .. })), "{again:?}");
    // As soon as it listens, it is told.
    world.relay.set_deaf(false);
    let seen = world.only_agent().await;
    assert_eq!(seen.relay.unwrap().status, AgentStatus::Revoked);
}

#[tokio::test]
async fn a_forged_outcome_is_never_success() {
    let world = World::new().await;
    let agents = [world.trusted_agent().await, world.trusted_agent().await];
    let (signers, intruder) = (agents.clone(), FakeAgent::new());
    world.relay.then(move |command| {
        view(command, CommandState::Concluded, Some(intruder.outcome(command, Code::PasswordReset)))
    });
    assert!(matches!(doubt(world.reset(LONG).await.unwrap()), Doubt::Forged { .. }));
    // Nor is the word of an agent that is trusted, and that the command does not name.
    world.relay.then(move |command| {
        let other = agents.iter().find(|agent| agent.id != command.aud).unwrap();
        view(command, CommandState::Concluded, Some(other.outcome(command, Code::PasswordReset)))
    });
    assert!(matches!(doubt(world.reset(LONG).await.unwrap()), Doubt::Forged { .. }));
    // Nor what the agent signed, when it says something else now.
    world.relay.then(move |command| {
        let agent = signers.iter().find(|agent| agent.id == command.aud).unwrap();
        let (refused, done) =
            (agent.outcome(command, Code::PasswordPolicy), agent.outcome(command, Code::PasswordReset));
        let (signed, claims): (Vec<&str>, Vec<&str>) = (refused.split('.').collect(), done.split('.').collect());
        view(command, CommandState::Concluded, Some([signed[0], claims[1], signed[2]].join(".")))
    });
    assert!(matches!(doubt(world.reset(LONG).await.unwrap()), Doubt::Forged { .. }));
}

#[tokio::test]
async fn a_genuine_outcome_of_another_command_is_never_success() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    let signer = Arc::clone(&agent);
    world.relay.then(move |command| {
        let other = Command { jti: CommandId::from_bytes([7; 16]), ..command.clone() };
        view(command, CommandState::Concluded, Some(signer.outcome(&other, Code::PasswordReset)))
    });
    assert!(matches!(doubt(world.reset(LONG).await.unwrap()), Doubt::Forged { .. }));
    // Nor is the relay's bare word.
    world.relay.then(|command| view(command, CommandState::Concluded, None));
    assert!(matches!(doubt(world.reset(LONG).await.unwrap()), Doubt::Forged { .. }));
}

#[tokio::test]
async fn after_undeliverable_the_next_agent_gets_a_command_of_its_own() {
    let world = World::new().await;
    let agents = [world.trusted_agent().await, world.trusted_agent().await];
    world.relay.then(|_| Reply::Problem(ProblemCode::NoAgent));
    world.relay.then(move |command| {
        let agent = agents.iter().find(|agent| agent.id == command.aud).unwrap();
        succeeds(agent)(command)
    });
    assert_eq!(concluded(&world.reset(LONG).await.unwrap()), "password_reset");
    let submitted = world.relay.submitted();
    let claims = |jws: &str| Command::parse(jws).unwrap().unverified::<Command>().unwrap();
    let (first, second) = (claims(&submitted[0]), claims(&submitted[1]));
    assert!(first.jti != second.jti && first.aud != second.aud && first.sealed != second.sealed);
}

#[tokio::test]
async fn a_node_that_stops_and_an_agent_that_is_busy_cost_a_moment_and_no_reset() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    world.relay.then(|_| Reply::Problem(ProblemCode::Draining));
    world.relay.then(|_| Reply::Problem(ProblemCode::AgentBusy));
    world.relay.then(succeeds(&agent));
    assert_eq!(concluded(&world.reset(LONG).await.unwrap()), "password_reset");
}

#[tokio::test]
async fn when_no_agent_can_be_reached_it_is_safe_to_repeat() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    world.relay.then(|_| Reply::Problem(ProblemCode::NoAgent));
    let answer = world.reset(LONG).await.unwrap();
    assert!(matches!(&answer, Answer::Undeliverable { reason, .. } if reason == "no_agent"), "{answer:?}");
    assert_eq!(answer.exit_status(), 3);
    assert!(answer.for_people("contoso").contains("trace-of-a-problem"));

    let row = PreflightRow {
        check: "reset_password".into(),
        target: "OU=Staff".into(),
        state: PreflightState::Failed,
        detail: "the right is missing".into(),
        remedy: "".into(),
        remedy_code: None,
        scope: None,
    };
    let report = PreflightReport { checked_at: UnixTime(1), rows: vec![row], domains: Vec::new() };
    world.relay.change(agent.id, |view| view.preflight = Some(report));
    let answer = world.reset(LONG).await.unwrap();
    assert!(matches!(&answer, Answer::Undeliverable { reason, .. } if reason == "preflight_failed"), "{answer:?}");
    world.relay.change(agent.id, |view| (view.preflight, view.online) = (None, false));
    let answer = world.reset(LONG).await.unwrap();
    assert!(matches!(&answer, Answer::Undeliverable { reason, .. } if reason == "no_agent"), "{answer:?}");
}

#[tokio::test]
async fn an_agent_is_asked_what_it_can_do_and_one_that_can_do_it_everywhere_first() {
    let world = World::new().await;
    let (one, other) = (world.trusted_agent().await, world.trusted_agent().await);
    let jane = Subject::upn("jane@corp.example").unwrap();
    let preferred = in_order_for(&jane, vec![one.id, other.id])[0];
    let (first, second) = if one.id == preferred { (one, other) } else { (other, one) };
    let report = |units: u32, failed: &[(&str, &[Operation])]| {
        let row = |(unit, operations): &(&str, &[Operation])| PreflightRow {
            check: "reset_password".into(),
            target: (*unit).into(),
            state: PreflightState::Failed,
            detail: "it is missing".into(),
            remedy: "".into(),
            remedy_code: None,
            scope: Some(Scope::new("corp.example", true, operations)),
        };
        let domains = vec![ServedDomain { name: "corp.example".into(), upn_suffixes: vec![], units }];
        Some(PreflightReport { checked_at: UnixTime(1), rows: failed.iter().map(row).collect(), domains })
    };
    let all: &[Operation] = &Operation::ALL;
    // One of its two units is out, so the other agent comes first; alone, it is asked.
    world.relay.change(first.id, |view| view.preflight = report(2, &[("OU=A", all)]));
    world.relay.then(succeeds(&second));
    assert_eq!(concluded(&world.reset(LONG).await.unwrap()), "password_reset");
    world.relay.change(second.id, |view| view.online = false);
    world.relay.then(succeeds(&first));
    assert_eq!(concluded(&world.reset(LONG).await.unwrap()), "password_reset");
    // Nowhere can it reset, but it can unlock.
    world.relay.change(first.id, |view| view.preflight = report(1, &[("OU=A", &[Operation::ResetPassword])]));
    let answer = world.reset(LONG).await.unwrap();
    assert!(matches!(&answer, Answer::Undeliverable { reason, .. } if reason == "preflight_failed"), "{answer:?}");
    let agent = Arc::clone(&first);
    world.relay.then(move |command| {
        view(command, CommandState::Concluded, Some(agent.outcome(command, Code::AccountUnlocked)))
    });
    assert_eq!(concluded(&world.portal.unlock(&tenant(), &jane, LONG).await.unwrap()), "account_unlocked");
}

#[tokio::test]
async fn an_agent_with_a_sealing_key_that_opens_nothing_is_named_and_left_out_and_the_next_is_asked() {
    let world = World::new().await;
    let (one, other) = (world.trusted_agent().await, world.trusted_agent().await);
    let jane = Subject::upn("jane@corp.example").unwrap();
    let preferred = in_order_for(&jane, vec![one.id, other.id])[0];
    let (first, second) = if one.id == preferred { (one, other) } else { (other, one) };
    // A relay that did not look has followed a rotation to a sealing key of Ed25519.
    let (next, ed25519) = (SigningKey::generate(&System).unwrap(), SigningKey::generate(&System).unwrap());
    let keys = AgentKeys { signing: next.public().clone(), sealing: ed25519.public().clone() };
    let about = About {
        iss: first.id,
        relay: world.relay.url(),
        tenant: Some(tenant()),
        jti: ObjectId::new(&System, &System),
        iat: System.now(),
    };
    let rotation = AgentRotation::new(about, 1, first.keys(), keys.clone(), &next).unwrap();
    let jws = rotation.sign(&first.signing).unwrap();
    let rotated = |view: &mut AgentView| {
        (view.signing_key, view.sealing_key) = (keys.signing.clone(), keys.sealing.clone());
        view.rotations = vec![jws];
    };
    world.relay.change(first.id, rotated);
    world.relay.then(succeeds(&second));
    assert_eq!(concluded(&world.reset(LONG).await.unwrap()), "password_reset");
    let agents = world.portal.agents(&tenant()).await.unwrap();
    let left_out = agents.iter().find(|agent| agent.agent == first.id).unwrap();
    let said: Vec<String> = left_out.warnings.iter().map(ToString::to_string).collect();
    assert!(said.join(" ").contains("sealing_key: a P-256 key is expected"), "{said:?}");
    // The only one that is left: the answer says whose fault it is.
    world.relay.change(second.id, |view| view.online = false);
    let answer = world.reset(SHORT).await.unwrap();
    assert!(matches!(&answer, Answer::Undeliverable { reason, .. } if reason == "keys_not_trusted"), "{answer:?}");
    assert!(answer.for_people("contoso").contains("writeback-portal agents"), "{answer:?}");

    // One that an older version of this portal has followed.
    let file = world.dir.path().join("portal/trust.json");
    let mut trust: serde_json::Value = serde_json::from_str(&world.trust_file()).unwrap();
    let pinned = &mut trust["tenants"]["contoso"]["agents"][first.id.to_string()];
    (pinned["signing_key"], pinned["sealing_key"]) =
        (serde_json::to_value(&keys.signing).unwrap(), serde_json::to_value(&keys.sealing).unwrap());
    std::fs::write(file, trust.to_string()).unwrap();
    world.relay.change(second.id, |view| view.online = true);
    world.relay.then(succeeds(&second));
    assert_eq!(concluded(&world.reset(LONG).await.unwrap()), "password_reset");
    let agents = world.portal.agents(&tenant()).await.unwrap();
    let left_out = agents.iter().find(|agent| agent.agent == first.id).unwrap();
    let said: Vec<String> = left_out.warnings.iter().map(ToString::to_string).collect();
    assert!(said.join(" ").contains("sealing_key: a P-256 key is expected"), "{said:?}");
}

#[tokio::test]
async fn after_a_lost_answer_the_same_bytes_are_submitted_again() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    world.relay.then(|_| Reply::Lost);
    world.relay.then(|_| Reply::Problem(ProblemCode::StoreUnavailable));
    world.relay.then(succeeds(&agent));
    assert_eq!(concluded(&world.reset(LONG).await.unwrap()), "password_reset");
    let submitted = world.relay.submitted();
    assert_eq!(submitted.len(), 3);
    assert!(submitted.iter().all(|jws| *jws == submitted[0]), "a new command was made for what may have been done");
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_is_unknown_and_not_an_error() {
    let world = World::new().await;
    world.trusted_agent().await;
    world.relay.then(|_| Reply::Lost);
    world.relay.then(|_| Reply::Problem(ProblemCode::UnknownKey));
    assert!(matches!(doubt(world.reset(LONG).await.unwrap()), Doubt::Lost { .. }));
    // Without the loss nothing was done, and the error says so.
    world.relay.then(|_| Reply::Problem(ProblemCode::UnknownKey));
    let error = world.reset(LONG).await.unwrap_err();
    assert!(matches!(&error, PortalError::Relay(e) if e.retry_safe()), "{error:?}");
}

#[tokio::test]
async fn a_file_that_breaks_while_a_command_is_on_its_way_makes_its_outcome_unknown() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    let trust = world.dir.path().join("portal/trust.json");
    world.relay.then(move |command| {
        std::fs::write(trust, "damaged").unwrap();
        succeeds(&agent)(command)
    });
    let doubt = doubt(world.reset(LONG).await.unwrap());
    assert!(matches!(&doubt, Doubt::Lost { reason } if reason.contains("trust.json")), "{doubt:?}");
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_later_by_status() {
    let world = World::new().await;
    let agent = world.trusted_agent().await;
    world.relay.then(|_| Reply::Problem(ProblemCode::OutcomeUnknown));
    for _ in 0..20 {
        world.relay.then(|command| view(command, CommandState::Unknown, None));
    }
    let answer = world.reset(SHORT).await.unwrap();
    assert_eq!(answer.exit_status(), 4);
    let Answer::Unknown { command, doubt: Doubt::NoOutcome, .. } = answer else { panic!("{answer:?}") };
    assert!(answer.for_people("contoso").contains(&format!("writeback-portal status contoso {command}")));

    let (world, portal) =
        (&world, Portal::open(&world.dir.path().join("portal"), System::clock(), System::random()).unwrap());
    world.relay.forget_script();
    let signer = Arc::clone(&agent);
    world.relay.then(move |command| {
        view(command, CommandState::Concluded, Some(signer.outcome(command, Code::PasswordPolicy)))
    });
    let answer = portal.status(&tenant(), command, Duration::ZERO).await.unwrap();
    assert_eq!((concluded(&answer), answer.exit_status()), ("password_policy", 2));
    // An agent that was revoked meanwhile is no longer believed.
    assert!(matches!(portal.revoke(&tenant(), agent.id).await.unwrap(), Told::Yes));
    world
        .relay
        .then(move |command| view(command, CommandState::Concluded, Some(agent.outcome(command, Code::PasswordReset))));
    assert_eq!(doubt(portal.status(&tenant(), command, Duration::ZERO).await.unwrap()), Doubt::AgentRevoked);
    let foreign = portal.status(&"other".parse().unwrap(), command, Duration::ZERO).await;
    assert!(matches!(foreign, Err(PortalError::NotSentHere { .. })), "{foreign:?}");
}

#[tokio::test]
async fn a_relay_with_another_certificate_or_none_at_all_is_named() {
    let world = World::new().await;
    let stranger = World::new().await;
    let config = Home::new(&world.dir.path().join("portal")).config().unwrap();
    let mixed = Config { relay: config.relay.clone(), ca_file: Some(stranger.dir.path().join("ca.pem")), ..config };
    let folder = world.dir.path().join("mixed");
    Home::new(&folder).init(&mixed, &System).unwrap();
    let portal = Portal::open(&folder, System::clock(), System::random()).unwrap();
    let error = portal.availability(&tenant()).await.unwrap_err();
    assert!(matches!(&error, PortalError::Relay(ClientError::Unreachable { .. })), "{error:?}");
    assert!(error.to_string().contains("certificate") && error.to_string().contains("localhost"), "{error}");
}
