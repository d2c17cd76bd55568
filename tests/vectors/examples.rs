//! `src/relay/http/examples.json`: what the calls over HTTPS look like, in `docs/openapi.json`. They belong to the vectors: the
//! same keys, agent and portal, at the same time.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use writeback_relay::clock::UnixTime;
use writeback_relay::protocol::api::{
    AgentList, AgentStatus, AgentView, Availability, CommandState, CommandView, Enrolled, Enrollment, Milestones,
    NewInvitation, PreflightReport, PreflightRow, PreflightState,
};
use writeback_relay::protocol::command::{Command, Operation, Options};
use writeback_relay::protocol::enrollment::Attestation;
use writeback_relay::protocol::outcome::{Code, Outcome};
use writeback_relay::protocol::problem::{Problem, ProblemCode};
use writeback_relay::protocol::scope::{Scope, ServedDomain};

use super::objects::{self, IAT, Keys};
use super::updating;

/// Of the request that is shown.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn problem(code: ProblemCode, detail: &str) -> Value {
    json!(Problem::new(code, detail, TRACE))
}

/// An unlock, which has no password: its bytes are the same each time.
pub(crate) fn unlock() -> Command {
    Command { operation: Operation::UnlockAccount, options: Options::default(), ..objects::command() }
}

pub(crate) fn unlocked() -> Outcome {
    let code = Code::AccountUnlocked;
    Outcome {
        code: code.as_str().into(),
        event_id: code.event().id(),
        detail: "the account was unlocked".into(),
        ..objects::outcome()
    }
}

/// How far the command has come, with what is known by then.
fn view(keys: &Keys, state: CommandState) -> CommandView {
    let at = |seconds: f64| Some(1_767_225_600.0 + seconds);
    let (command, mut milestones) = (unlock(), Milestones { accepted_at: at(0.25), ..Milestones::default() });
    milestones.delivering_at = at(0.25);
    let concluded = state == CommandState::Concluded;
    milestones.concluded_at = if concluded { at(0.5) } else { None };
    CommandView {
        command: command.jti,
        agent: command.aud,
        state,
        reason: None,
        milestones,
        outcome: concluded.then(|| unlocked().sign(&keys.agent_signing).unwrap()),
        trace_id: TRACE.into(),
    }
}

fn agent(keys: &Keys) -> AgentView {
    let code = objects::enrolment_code(keys);
    let attestation = Attestation::new(objects::tenant(), objects::agent(), &keys.agent());
    let row = PreflightRow {
        check: "reset_password".into(),
        target: "OU=Staff,DC=corp,DC=example".into(),
        state: PreflightState::Ok,
        detail: "granted on all 60 users that were looked at".into(),
        scope: Some(Scope::new("corp.example", true, &[Operation::ResetPassword])),
        ..serde_json::from_value(json!({ "check": "", "target": "", "state": "ok", "detail": "" })).unwrap()
    };
    let domain = ServedDomain { name: "corp.example".into(), upn_suffixes: vec!["corp.example".into()], units: 1 };
    AgentView {
        agent: objects::agent(),
        name: "agent-host".into(),
        status: AgentStatus::Approved,
        online: true,
        version: Some("0.1.0".into()),
        enrolled_at: IAT,
        invitation: code.invitation,
        signing_key: keys.agent_signing.public().clone(),
        sealing_key: keys.agent_sealing.public().clone(),
        attestation: attestation.sign(code.invitation, code.secret.expose()).unwrap(),
        preflight: Some(PreflightReport { checked_at: IAT, rows: vec![row], domains: vec![domain] }),
        rotations: Vec::new(),
        acknowledgement: None,
        trusts_portal: Some(true),
    }
}

fn call(request: impl Serialize, responses: Value) -> Value {
    let request = serde_json::to_value(request).unwrap();
    if request.is_null() {
        json!({ "responses": responses })
    } else {
        json!({ "request": request, "responses": responses })
    }
}

fn all(keys: &Keys) -> Value {
    let (code, proof) = (objects::enrolment_code(keys), objects::proof(keys));
    let invitation =
        NewInvitation { id: code.invitation, token_sha256: code.token.hash(), expires_at: UnixTime(IAT.0 + 86_400) };
    let enrollment = Enrollment {
        tenant: objects::tenant(),
        invitation: code.invitation,
        token: code.token.clone(),
        agent: objects::agent(),
        journal: proof.journal,
        name: "agent-host".into(),
        signing_key: keys.agent_signing.public().clone(),
        sealing_key: keys.agent_sealing.public().clone(),
        proof: proof.sign(&keys.agent_signing).unwrap(),
        attestation: agent(keys).attestation,
    };
    let enrolled = Enrolled {
        agent: objects::agent(),
        status: AgentStatus::Pending,
        portal: objects::portal(),
        portal_keys: vec![keys.portal.public().clone()],
        portal_rotations: Vec::new(),
    };
    let available = Availability {
        available: true,
        agents: vec![objects::agent()],
        operations: Operation::ALL.iter().map(|operation| operation.as_str().into()).collect(),
        ..Availability::default()
    };
    let conflict = "this command id was used with another body; nothing of this one was taken";
    let unknown = "exp has passed without an answer, and the command may have been delivered; ask again where Location says, and \
                   send no new command before";
    let no_agent = "nothing was written to any socket, and nothing will be: make a new command";
    json!({
        "create_invitation": call(&invitation, json!({ "201": invitation })),
        "enroll_agent": call(&enrollment, json!({ "201": enrolled })),
        "list_agents": call((), json!({ "200": AgentList { agents: vec![agent(keys)], next: None } })),
        "get_availability": call((), json!({ "200": available })),
        "submit_command": call(unlock().sign(&keys.portal).unwrap(), json!({
            "200": view(keys, CommandState::Concluded),
            "202": view(keys, CommandState::Delivering),
            "409": problem(ProblemCode::CommandConflict, conflict),
            "503": problem(ProblemCode::NoAgent, no_agent),
            "504": problem(ProblemCode::OutcomeUnknown, unknown),
        })),
        "get_command": call((), json!({ "200": view(keys, CommandState::Concluded) })),
        "rotate_agent_keys": call(objects::agent_rotation(keys).sign(&keys.agent_signing).unwrap(), json!({})),
        "rotate_portal_key": call(objects::portal_rotation(keys).sign(&keys.portal).unwrap(), json!({})),
    })
}

/// The examples are what our code makes, and hold; or they are written.
#[test]
fn the_calls_in_the_api_document_are_what_our_code_makes_and_hold() {
    let keys = Keys::read();
    let command = unlock();
    let read = Command::parse(&command.sign(&keys.portal).unwrap())
        .and_then(|jws| Command::verify(&jws, [keys.portal.public()]))
        .unwrap();
    assert_eq!(read, command);
    let outcome = view(&keys, CommandState::Concluded).outcome.unwrap();
    assert_eq!(Outcome::verify(&outcome, keys.agent_signing.public(), &command).unwrap(), unlocked());
    let assertion = objects::portal_assertion().sign(&keys.portal).unwrap();
    for shown in [command.sign(&keys.portal).unwrap(), outcome, assertion] {
        assert!(
            include_str!("../../docs/protocol.md").contains(&shown),
            "docs/protocol.md §6 shows another call: {shown}"
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/relay/http/examples.json");
    let text = serde_json::to_string_pretty(&all(&keys)).unwrap() + "\n";
    if updating() {
        fs::write(&path, &text).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == text, "{} is not what our code makes", path.display());
}
