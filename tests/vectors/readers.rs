//! Who reads what: each reader of an object that there is in the relay, the agent and the portal.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use writeback_relay::agent::Pin;
use writeback_relay::clock::Clock;
use writeback_relay::portal::sent::SentCommands;
use writeback_relay::protocol::api::{AgentStatus, AgentView, Enrolled};
use writeback_relay::protocol::assertion::{AgentAssertion, PortalAssertion};
use writeback_relay::protocol::command::{Command, Operation, Subject};
use writeback_relay::protocol::enrollment::{Attestation, Proof};
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::protocol::frame::{FromAgent, FromRelay};
use writeback_relay::protocol::jose::{JoseError, Jws, PublicKey};
use writeback_relay::protocol::json;
use writeback_relay::protocol::outcome::Outcome;
use writeback_relay::protocol::rotation::{
    ACKNOWLEDGEMENT_TYP, Acknowledgement, AgentRotation, PortalKey, PortalRotation,
};
use writeback_relay::protocol::sealed::open_for;
use writeback_relay::relay::embedded::EmbeddedRegistry;
use writeback_relay::relay::keys::{Keys as RelayKeys, Refused};
use writeback_relay::relay::registry::{
    AgentLater, AgentRecord, PortalLater, PortalRecord, Registry, Rotated, Snapshot, TenantRecord, TenantSnapshot,
};

use super::objects::{self, IAT, Keys, RELAY};

pub(crate) type Read = Result<(), String>;

pub(super) fn said<T>(read: Result<T, impl ToString>) -> Read {
    read.map(drop).map_err(|error| error.to_string())
}

/// Reads an object as the one that it is meant for does.
pub(crate) fn read(keys: &Keys, object: &str, text: &str) -> Read {
    let (agent, tenant, portal) = (objects::agent(), objects::tenant(), objects::portal());
    match object {
        "command" => agents_command(keys, text),
        "outcome" => said(Outcome::verify(text, keys.agent_signing.public(), &objects::command())),
        "agent-assertion" => said(
            AgentAssertion::parse(text)
                .and_then(|(jws, _)| AgentAssertion::verify(&jws, keys.agent_signing.public(), RELAY, IAT)),
        ),
        "portal-assertion" => said(
            PortalAssertion::parse(text)
                .and_then(|(jws, _)| PortalAssertion::verify(&jws, [keys.portal.public()], RELAY, IAT)),
        ),
        "enrollment-proof" => said(Proof::verify(text, &keys.agent(), RELAY, IAT)),
        "attestation" => {
            let code = objects::enrolment_code(keys);
            said(Attestation::new(tenant, agent, &keys.agent()).verify(text, code.invitation, code.secret.expose()))
        }
        "agent-rotation" => said(
            AgentRotation::read(text)
                .and_then(|rotation| rotation.follows((&agent, Some(&tenant), RELAY), 0, &keys.agent())),
        ),
        "portal-rotation" => said(PortalRotation::read(text).and_then(|rotation| {
            let pinned = PortalKey { signing: keys.portal.public().clone() };
            rotation.follows((&portal, None, RELAY), 0, &pinned)
        })),
        "acknowledgement" => {
            said(Acknowledgement::verify(text, [keys.agent_signing.public()], (agent, &tenant, &portal)))
        }
        "enrolment-code" => said(text.parse::<EnrolmentCode>()),
        "public key" => said(json::read::<PublicKey>(text.as_bytes())),
        "sub_id" => said(json::read::<Subject>(text.as_bytes())),
        "frame from an agent" => said(FromAgent::decode(&unhex(text))),
        "frame from a relay" => said(FromRelay::decode(&unhex(text))),
        other => panic!("no reader of {other}"),
    }
}

/// An agent that has pinned the portal's key of either kind.
fn agents_command(keys: &Keys, text: &str) -> Read {
    let pin = Pin { previous: Some(keys.portal_es256.clone()), ..Pin::new(keys.portal.public().clone()) };
    said(Command::parse(text).and_then(|jws| {
        let claimed: Command = jws.unverified()?;
        if claimed.iss != objects::portal() {
            return Err(JoseError::mismatch("iss", "a portal that is trusted here is expected"));
        }
        let command = Command::verify(&jws, pin.keys_at(IAT))?;
        command.validity.check_now(IAT)?;
        if command.aud != objects::agent() || command.tenant != objects::tenant() {
            return Err(JoseError::mismatch("aud", "this agent is expected"));
        }
        if command.operation != Operation::UnlockAccount {
            open_for(&command, &keys.agent_sealing)?;
        }
        Ok(())
    }))
}

fn unhex(text: &str) -> Vec<u8> {
    let bytes =
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    bytes.collect()
}

/// It is always the time of the examples.
struct Then;

impl Clock for Then {
    fn now_ms(&self) -> u64 {
        u64::try_from(IAT.0).unwrap() * 1000
    }
}

/// A relay that knows the examples' tenant, portal and agent, a portal's folder, and what an agent has pinned.
pub(crate) struct World {
    pub(crate) keys: Keys,
    relay: RelayKeys,
    registry: Arc<EmbeddedRegistry>,
    sent: SentCommands,
    runtime: Mutex<Runtime>,
    _folder: TempDir,
}

fn agent_record(keys: &Keys) -> AgentRecord {
    AgentRecord {
        agent: objects::agent(),
        name: "".into(),
        status: AgentStatus::Approved,
        keys: keys.agent(),
        journal: objects::proof(keys).journal,
        invitation: objects::proof(keys).invitation,
        attestation: String::new(),
        enrolled_at: IAT,
        version: None,
        preflight: None,
        later: AgentLater::default(),
    }
}

fn portal_record(keys: &Keys) -> PortalRecord {
    PortalRecord {
        portal: objects::portal(),
        keys: vec![keys.portal.public().clone(), keys.portal_es256.clone()],
        tenants: vec![objects::tenant()],
        later: PortalLater::default(),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let keys = Keys::read();
        let (portal, agent) = (portal_record(&keys), agent_record(&keys));
        Self::of(keys, portal, agent)
    }

    /// The same, in which portal and agent were registered with this key.
    pub(crate) fn with_keys(key: PublicKey) -> Self {
        let keys = Keys::read();
        let portal = PortalRecord { keys: vec![key.clone()], ..portal_record(&keys) };
        let mut agent = agent_record(&keys);
        agent.keys.signing = key;
        Self::of(keys, portal, agent)
    }

    /// The portal's keys and the agent's, as the relay lists them.
    pub(crate) fn registered(&self) -> (Vec<PublicKey>, PublicKey) {
        let exported = self.wait(self.registry.export()).unwrap();
        let agents = self.wait(self.registry.agents(&objects::tenant())).unwrap();
        (exported.portals[0].keys.clone(), agents[0].keys.signing.clone())
    }

    fn of(keys: Keys, portal: PortalRecord, agent: AgentRecord) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let registry = Arc::new(runtime.block_on(EmbeddedRegistry::open(&folder.path().join("r.redb"))).unwrap());
        let tenant = TenantRecord { tenant: objects::tenant(), created_at: IAT };
        let snapshot = Snapshot {
            version: 1,
            portals: vec![portal],
            tenants: vec![TenantSnapshot { tenant, invitations: Vec::new(), agents: vec![agent] }],
        };
        runtime.block_on(registry.import(snapshot)).unwrap();
        let relay = RelayKeys::new(registry.clone(), Arc::new(Then), RELAY);
        let sent = SentCommands::open(folder.path()).unwrap();
        Self { keys, relay, registry, sent, runtime: Mutex::new(runtime), _folder: folder }
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime = self.runtime.lock().unwrap();
        runtime.block_on(async { tokio::time::timeout(crate::support::PATIENCE, future).await.unwrap() })
    }

    /// What each reader of this object says.
    pub(crate) fn verdicts(&self, object: &str, text: &str) -> Vec<(&'static str, Read)> {
        let mut verdicts = vec![("whom it is for", read(&self.keys, object, text))];
        let (agent, tenant, portal) = (objects::agent(), objects::tenant(), objects::portal());
        match object {
            "command" => verdicts.push(("relay", said(self.wait(self.relay.command(text, &portal, &tenant))))),
            "outcome" => verdicts.push(("relay", self.relays_outcome(text))),
            "agent-assertion" => verdicts.push((
                "relay",
                match self.wait(self.relay.agent(text)) {
                    Err(Refused::AssertionUsed) => Ok(()),
                    other => said(other),
                },
            )),
            "portal-assertion" => {
                verdicts.push(("relay, a call", said(self.wait(self.relay.portal(text, &tenant)))));
                verdicts.push(("relay, a command", said(self.wait(self.relay.sender(text, &tenant)))));
            }
            "attestation" => verdicts.push(("relay", said(Attestation::parse(text)))),
            "agent-rotation" => verdicts.push((
                "relay",
                AgentRotation::read(text)
                    .map_err(|error| error.to_string())
                    .and_then(|rotation| followed(agent_record(&self.keys).rotate(&tenant, RELAY, &rotation, text))),
            )),
            "portal-rotation" => {
                let read = || PortalRotation::read(text).map_err(|error| error.to_string());
                verdicts.push(("relay", read().and_then(|r| followed(self.rotated(&r, text)))));
                let mut pin = Pin::new(self.keys.portal.public().clone());
                verdicts.push(("agent", read().and_then(|r| said(pin.follow(&portal, RELAY, &r)))));
            }
            "acknowledgement" => verdicts.push((
                "relay",
                said(
                    Jws::parse(text, ACKNOWLEDGEMENT_TYP).and_then(|jws| jws.unverified::<Acknowledgement>()).and_then(
                        |said| match said.iss == agent && said.tenant == tenant {
                            true => Ok(()),
                            false => Err(JoseError::mismatch("iss", "the agent is expected")),
                        },
                    ),
                ),
            )),
            "public key" => verdicts.extend(self.keys_readers(text)),
            "sub_id" => verdicts.extend(self.subject_readers(text)),
            _ => {}
        }
        verdicts
    }

    fn rotated(&self, rotation: &PortalRotation, jws: &str) -> Rotated {
        let present = self.wait(self.registry.portal(&objects::portal())).unwrap().unwrap();
        PortalRecord { keys: vec![self.keys.portal.public().clone()], ..present }.rotate(RELAY, rotation, jws)
    }

    /// As a session does it, which sees neither whose signature it is nor what was asked.
    fn relays_outcome(&self, text: &str) -> Read {
        said(Outcome::parse(text).and_then(|jws| jws.unverified::<Outcome>()).and_then(|outcome| {
            let command = objects::command();
            match (outcome.iss == command.aud, outcome.tenant == command.tenant, outcome.command == command.jti) {
                (true, true, true) => Ok(()),
                _ => Err(JoseError::mismatch("iss", "the agent whose session this is is expected")),
            }
        }))
    }

    /// Everywhere that a key comes in.
    fn keys_readers(&self, key: &str) -> Vec<(&'static str, Read)> {
        let portals = format!(r#"{{"portal":"portal-1","keys":[{key}],"tenants":[]}}"#);
        let sealing = serde_json::to_string(self.keys.agent_sealing.public()).unwrap();
        let mut record = serde_json::to_value(agent_record(&self.keys)).unwrap();
        record["signing_key"] = json!("KEY");
        let tenant = json!({"tenant": {"tenant": "contoso", "created_at": 1}, "invitations": [], "agents": [record]});
        let agents = json!({"version": 1, "portals": [], "tenants": [tenant]}).to_string().replace(r#""KEY""#, key);
        let shown = json!({
            "agent": objects::agent(), "name": "", "status": "pending", "online": true, "enrolled_at": 1,
            "invitation": objects::proof(&self.keys).invitation, "signing_key": "KEY",
            "sealing_key": self.keys.agent_sealing.public(), "attestation": "",
        });
        let shown = shown.to_string().replace(r#""KEY""#, key);
        let enrolled = format!(
            r#"{{"agent":"{}","status":"pending","portal":"portal-1","portal_keys":[{key}]}}"#,
            objects::agent()
        );
        let both = format!(r#"{{"signing_key":{key},"sealing_key":{sealing}}}"#);
        vec![
            ("relay, operator", {
                let record = json::read::<PortalRecord>(portals.as_bytes()).map_err(|e| e.to_string());
                record.and_then(|record| said(record.check()))
            }),
            ("relay, import", {
                let snapshot = json::read_with_nulls::<Snapshot>(agents.as_bytes()).map_err(|e| e.to_string());
                snapshot.and_then(|snapshot| said(snapshot.check()))
            }),
            ("relay, store", {
                let kept = serde_json::from_str::<PortalRecord>(&portals).map_err(|e| e.to_string());
                kept.and_then(|record| said(record.check()))
            }),
            ("agent, enrolment", said(json::read::<Enrolled>(enrolled.as_bytes()))),
            ("agent, file", said(json::read_with_nulls::<Pin>(format!(r#"{{"key":{key}}}"#).as_bytes()))),
            ("agent, file of the first form", said(json::read_with_nulls::<Pin>(format!("[{key}]").as_bytes()))),
            ("portal, list", {
                let view = json::read::<AgentView>(shown.as_bytes()).map_err(|e| e.to_string());
                view.and_then(|view| said(view.keys().check()))
            }),
            ("portal, trust store", {
                use writeback_relay::protocol::enrollment::AgentKeys;
                let keys = json::read_with_nulls::<AgentKeys>(both.as_bytes()).map_err(|e| e.to_string());
                keys.and_then(|keys| said(keys.check()))
            }),
        ]
    }

    fn subject_readers(&self, subject: &str) -> Vec<(&'static str, Read)> {
        let claims = serde_json::to_value(objects::command()).map(|mut claims| {
            claims["sub_id"] = json!("SUBJECT");
            claims.to_string().replace(r#""SUBJECT""#, subject)
        });
        let claims = claims.unwrap();
        vec![("command", said(json::read::<Command>(claims.as_bytes()))), ("portal, sent", self.sent_command(&claims))]
    }

    /// A portal finds what it has sent by what stands in its file.
    pub(crate) fn sent_command(&self, claims: &str) -> Read {
        let file = self._folder.path().join("commands").join(format!("{}.json", objects::command().jti));
        let command = objects::command();
        self.sent.remember(&command, "its bytes").unwrap();
        std::fs::write(&file, claims).unwrap();
        said(self.sent.find(&command.tenant, command.jti))
    }
}

fn followed(rotated: Rotated) -> Read {
    match rotated {
        Rotated::Done | Rotated::Passed => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
