//! JOSE libraries of other languages, both ways: what we sign and seal they verify and open, and what they sign (EdDSA
//! and ES256) and seal we verify and open. Every kind of object, and the sealed password.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use writeback_relay::protocol::assertion::{
    AGENT_ASSERTION_TYP, AgentAssertion, PORTAL_ASSERTION_TYP, PortalAssertion,
};
use writeback_relay::protocol::command::{COMMAND_TYP, Command};
use writeback_relay::protocol::enrollment::{ATTESTATION_TYP, AgentKeys, Attestation, PROOF_TYP, Proof};
use writeback_relay::protocol::jose::{PublicKey, SigningKey};
use writeback_relay::protocol::outcome::{OUTCOME_TYP, Outcome};
use writeback_relay::protocol::sealed::{open_for, seal_for};

use crate::vectors::objects::{self, IAT, Keys, RELAY, private_jwk};

const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Answer {
    verified: Vec<Verified>,
    opened: Vec<String>,
    signed: Vec<String>,
    sealed: Vec<String>,
}

#[derive(Deserialize)]
struct Verified {
    claims: Value,
    header: Value,
    /// The thumbprint, as that library computes it.
    kid: String,
}

fn folder(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn installed() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let status = Process::new(folder("tests/interop/setup")).status().expect("tests/interop/setup can't be run");
        assert!(status.success(), "the libraries of other languages are not installed: run tests/setup");
    });
}

fn run(mut process: Process, task: &Value) -> Answer {
    process.current_dir(folder("target/interop")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().unwrap_or_else(|e| panic!("{process:?}: {e}: run tests/setup"));
    child.stdin.take().unwrap().write_all(task.to_string().as_bytes()).unwrap();
    let id = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = match receiver.recv_timeout(DEADLINE) {
        Ok(output) => output.unwrap(),
        Err(_) => panic!("process {id} did not end within {DEADLINE:?}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn node(task: &Value) -> Answer {
    installed();
    let mut node = Process::new(folder("target/node/bin/node"));
    node.args(["--input-type=module", "--eval", include_str!("interop/jose.mjs")]);
    run(node, task)
}

fn python(task: &Value) -> Answer {
    installed();
    let mut python = Process::new(folder("target/interop/venv/bin/python"));
    python.args(["-I", "-c", include_str!("interop/jose.py")]);
    run(python, task)
}

fn public_jwk(key: &PublicKey) -> Value {
    serde_json::to_value(key).unwrap()
}

/// What we made, and the key it is verified with there.
fn ours(typ: &str, jws: String, key: &SigningKey) -> Value {
    json!({ "name": typ, "jws": jws, "alg": "EdDSA", "key": public_jwk(key.public()) })
}

/// The kinds of object that a key signs, each in both algorithms.
struct Kinds {
    keys: Keys,
    /// The agent's keys if it signs with P-256.
    p256_agent: AgentKeys,
}

impl Kinds {
    fn new() -> Self {
        let keys = Keys::read();
        let sealing = keys.agent_sealing.public().clone();
        Self { p256_agent: AgentKeys { signing: keys.portal_es256.clone(), sealing }, keys }
    }

    fn p256_proof(&self) -> Proof {
        Proof { signing_key: self.p256_agent.signing.thumbprint(), ..objects::proof(&self.keys) }
    }

    fn to_sign(&self) -> Vec<Value> {
        let each = [
            (COMMAND_TYP, json!(sealed_command()), "portal"),
            (OUTCOME_TYP, json!(objects::outcome()), "agent_signing"),
            (AGENT_ASSERTION_TYP, json!(objects::agent_assertion()), "agent_signing"),
            (PORTAL_ASSERTION_TYP, json!(objects::portal_assertion()), "portal"),
            (PROOF_TYP, json!(objects::proof(&self.keys)), "agent_signing"),
        ];
        let mut all = Vec::new();
        for (typ, claims, key) in each {
            all.push(json!({ "typ": typ, "claims": claims, "alg": "EdDSA", "key": private_jwk(key) }));
            let claims = if typ == PROOF_TYP { json!(self.p256_proof()) } else { claims };
            all.push(json!({ "typ": typ, "claims": claims, "alg": "ES256", "key": private_jwk("portal_es256") }));
        }
        let code = objects::enrolment_code(&self.keys);
        let attestation = Attestation::new(objects::tenant(), objects::agent(), &self.keys.agent());
        let secret = json!({ "kty": "oct", "k": code.secret });
        all.push(json!({
            "typ": ATTESTATION_TYP, "claims": attestation, "alg": "HS256", "key": secret, "kid": code.invitation,
        }));
        all
    }

    /// Verifies, with our code, what the other side signed: in the order of [`Self::to_sign`].
    fn verify(&self, signed: &[String]) {
        let [c1, c2, o1, o2, a1, a2, p1, p2, e1, e2, attestation] = signed else { panic!("{} signed", signed.len()) };
        let (portal, p256) = (self.keys.portal.public(), &self.keys.portal_es256);
        let agent = self.keys.agent_signing.public();
        for (jws, key) in [(c1, portal), (c2, p256)] {
            assert_eq!(Command::verify(&Command::parse(jws).unwrap(), [key]).unwrap(), sealed_command());
        }
        for (jws, key) in [(o1, agent), (o2, p256)] {
            assert_eq!(Outcome::verify(jws, key, &objects::command()).unwrap(), objects::outcome());
        }
        for (token, key) in [(a1, agent), (a2, p256)] {
            let (jws, _) = AgentAssertion::parse(token).unwrap();
            assert_eq!(AgentAssertion::verify(&jws, key, RELAY, IAT).unwrap(), objects::agent_assertion());
        }
        for (token, key) in [(p1, portal), (p2, p256)] {
            let (jws, _) = PortalAssertion::parse(token).unwrap();
            assert_eq!(PortalAssertion::verify(&jws, [key], RELAY, IAT).unwrap(), objects::portal_assertion());
        }
        assert_eq!(Proof::verify(e1, &self.keys.agent(), RELAY, IAT).unwrap(), objects::proof(&self.keys));
        assert_eq!(Proof::verify(e2, &self.p256_agent, RELAY, IAT).unwrap(), self.p256_proof());
        let code = objects::enrolment_code(&self.keys);
        Attestation::new(objects::tenant(), objects::agent(), &self.keys.agent())
            .verify(attestation, code.invitation, code.secret.expose())
            .unwrap();
    }
}

/// A command as it is sent; what is sealed does not matter to its signature.
fn sealed_command() -> Command {
    Command { sealed: Some("e30..AA.AA.AA".to_owned()), ..objects::command() }
}

fn both_ways(other: fn(&Value) -> Answer) {
    let kinds = Kinds::new();
    let keys = &kinds.keys;
    let code = objects::enrolment_code(keys);
    let attestation = Attestation::new(objects::tenant(), objects::agent(), &keys.agent());
    let hs256 = attestation.sign(code.invitation, code.secret.expose()).unwrap();
    let verify = vec![
        ours(COMMAND_TYP, sealed_command().sign(&keys.portal).unwrap(), &keys.portal),
        ours(OUTCOME_TYP, objects::outcome().sign(&keys.agent_signing).unwrap(), &keys.agent_signing),
        ours(AGENT_ASSERTION_TYP, objects::agent_assertion().sign(&keys.agent_signing).unwrap(), &keys.agent_signing),
        ours(PORTAL_ASSERTION_TYP, objects::portal_assertion().sign(&keys.portal).unwrap(), &keys.portal),
        ours(PROOF_TYP, objects::proof(keys).sign(&keys.agent_signing).unwrap(), &keys.agent_signing),
        json!({
            "name": ATTESTATION_TYP, "jws": hs256, "alg": "HS256", "kid": code.invitation,
            "key": { "kty": "oct", "k": code.secret },
        }),
    ];
    let claims = [
        json!(sealed_command()),
        json!(objects::outcome()),
        json!(objects::agent_assertion()),
        json!(objects::portal_assertion()),
        json!(objects::proof(keys)),
        json!(attestation),
    ];
    let jwe = seal_for(
        &objects::command(),
        &objects::secrets(),
        keys.agent_sealing.public(),
        &writeback_relay::clock::System,
    )
    .unwrap();
    let plaintext = keys.agent_sealing.open(&jwe).unwrap();
    let plaintext = std::str::from_utf8(&plaintext).unwrap();
    let answer = other(&json!({
        "verify": verify,
        "open": [{ "jwe": jwe, "key": private_jwk("agent_sealing") }],
        "sign": kinds.to_sign(),
        "seal": [{ "plaintext": plaintext, "key": public_jwk(keys.agent_sealing.public()) }],
    }));

    assert_eq!(answer.verified.len(), verify.len());
    for ((seen, asked), claims) in answer.verified.iter().zip(&verify).zip(&claims) {
        assert_eq!(&seen.claims, claims);
        assert_eq!(seen.header["typ"], asked["name"]);
        assert_eq!(seen.header["kid"], seen.kid, "the thumbprint of {}", asked["name"]);
    }
    assert_eq!(answer.opened, [plaintext]);
    kinds.verify(&answer.signed);
    let command = Command { sealed: Some(answer.sealed[0].clone()), ..objects::command() };
    assert_eq!(open_for(&command, &keys.agent_sealing).unwrap(), objects::secrets());
}

#[test]
fn npms_jose_and_we_understand_each_other() {
    both_ways(node);
}

#[test]
fn pythons_joserfc_and_we_understand_each_other() {
    both_ways(python);
}

#[test]
fn a_validator_of_another_language_finds_the_openapi_document_valid() {
    installed();
    let mut python = Process::new(folder("target/interop/venv/bin/python"));
    python.args(["-I", "-m", "openapi_spec_validator", "--errors", "all"]).arg(folder("docs/openapi.json"));
    let said = python.output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("OK"), "{text}{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn the_lock_file_names_no_registry() {
    let lock = include_str!("interop/package-lock.json");
    assert!(!lock.contains("\"resolved\""), "package-lock.json: write it with tests/interop/.npmrc in place");
}
