//! New keys that nobody may follow, and what is said about them.

use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::enrollment::AgentKeys;
use writeback_relay::protocol::ids::ObjectId;
use writeback_relay::protocol::jose::{PublicKey, SealingKey, SigningKey};
use writeback_relay::protocol::rotation::{About, AgentRotation, PortalKey, PortalRotation};

use super::counted;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Answered, Relay, TestPortal};

const JOSE: &str = "application/jose";

pub(super) struct Stage {
    pub(super) relay: Relay,
    pub(super) portal: TestPortal,
    pub(super) agent: RawAgent,
}

impl Stage {
    pub(super) async fn new() -> Self {
        let relay = Relay::start().await;
        let portal = relay.portal("portal-1").await;
        let agent = RawAgent::enrolled(&relay, &portal).await;
        Self { relay, portal, agent }
    }

    pub(super) async fn post(&self, who: &str, media_type: &str, jws: &str) -> Answered {
        let call = self.portal.raw.send(|http, relay| {
            let call = http.post(format!("{relay}/v1/{who}/rotations"));
            call.header("content-type", media_type).body(jws.to_owned())
        });
        call.await
    }

    async fn refused(&self, who: &str, jws: &str, (status, code): (u16, &str), text: &str) {
        let answered = counted(&self.relay, code, self.post(who, JOSE, jws)).await;
        assert_eq!((answered.status, answered.problem().as_str()), (status, code), "{}", answered.text());
        assert!(answered.detail().contains(text), "{}", answered.detail());
    }

    pub(super) fn rotation(&self, seq: u64, from: (&AgentKeys, &SigningKey), to: (&SigningKey, &PublicKey)) -> String {
        let about = About {
            iss: self.agent.agent,
            relay: self.relay.url(),
            tenant: Some(self.agent.tenant.clone()),
            jti: ObjectId::new(&System, &System),
            iat: System.now(),
        };
        let keys = AgentKeys { signing: to.0.public().clone(), sealing: to.1.clone() };
        AgentRotation::new(about, seq, from.0.clone(), keys, to.0).unwrap().sign(from.1).unwrap()
    }

    pub(super) fn portal_rotation(&self, seq: u64, from: &SigningKey, to: &SigningKey) -> String {
        let (jti, iat) = (ObjectId::new(&System, &System), System.now());
        let about = About { iss: self.portal.raw.id.clone(), relay: self.relay.url(), tenant: None, jti, iat };
        let key = |key: &SigningKey| PortalKey { signing: key.public().clone() };
        PortalRotation::new(about, seq, key(from), key(to), to).unwrap().sign(from).unwrap()
    }
}

/// The public half of a new key that opens what is sealed.
pub(super) fn sealing() -> PublicKey {
    SealingKey::generate().unwrap().public().clone()
}

pub(super) fn signing() -> SigningKey {
    SigningKey::generate(&System).unwrap()
}

#[tokio::test]
async fn a_rotation_to_a_sealing_key_that_opens_nothing_is_refused_as_at_enrolment() {
    let stage = Stage::new().await;
    let (agent, next, ed25519) = (&stage.agent, signing(), signing());
    let jws = stage.rotation(1, (&agent.keys(), &agent.signing), (&next, ed25519.public()));
    stage.refused("agent", &jws, (422, "unprocessable"), "sealing_key: a P-256 key is expected").await;
    let agents = stage.portal.portal.agents(&agent.tenant).await.unwrap();
    assert!(agents[0].warnings.is_empty(), "the relay has followed it: {:?}", agents[0].warnings);
}

#[tokio::test]
async fn a_rotation_that_does_not_lead_on_is_told_what_would() {
    let stage = Stage::new().await;
    let agent = &stage.agent;
    let (first, second, third) = (agent.keys(), signing(), signing());
    let (second_sealing, third_sealing) = (sealing(), sealing());
    let one = stage.rotation(3, (&first, &agent.signing), (&second, &second_sealing));
    assert_eq!(stage.post("agent", JOSE, &one).await.status, 204);
    let now = AgentKeys { signing: second.public().clone(), sealing: second_sealing };
    let refused = (409, "rotation_refused");
    let same = stage.rotation(3, (&now, &second), (&third, &third_sealing));
    stage.refused("agent", &same, refused, "seq: a number greater than 3 is expected").await;
    let old = stage.rotation(4, (&first, &agent.signing), (&third, &third_sealing));
    stage.refused("agent", &old, refused, "previous: the keys that are known now are expected").await;
    let kept = stage.rotation(4, (&now, &second), (&third, &now.sealing));
    stage.refused("agent", &kept, (422, "unprocessable"), "keys: none of the previous ones is expected").await;
    let none = stage.rotation(0, (&now, &second), (&third, &third_sealing));
    stage.refused("agent", &none, (422, "unprocessable"), "seq: a number greater than 0 is expected").await;
}

#[tokio::test]
async fn each_rotation_that_is_kept_may_be_sent_again() {
    let stage = Stage::new().await;
    let agent = &stage.agent;
    let (second, third, second_sealing) = (signing(), signing(), sealing());
    let one = stage.rotation(1, (&agent.keys(), &agent.signing), (&second, &second_sealing));
    let now = AgentKeys { signing: second.public().clone(), sealing: second_sealing };
    let two = stage.rotation(2, (&now, &second), (&third, &sealing()));
    for jws in [&one, &two, &one, &two] {
        assert_eq!(stage.post("agent", JOSE, jws).await.status, 204);
    }
    let (first, second, third) = (&stage.portal.raw.key, signing(), signing());
    let (one, two) = (stage.portal_rotation(1, first, &second), stage.portal_rotation(2, &second, &third));
    for jws in [&one, &two, &one, &two] {
        assert_eq!(stage.post("portal", JOSE, jws).await.status, 204);
    }
}

#[tokio::test]
async fn a_rotation_is_taken_as_application_jose_alone() {
    let stage = Stage::new().await;
    let (agent, next) = (&stage.agent, signing());
    let of_agent = stage.rotation(1, (&agent.keys(), &agent.signing), (&next, &sealing()));
    let of_portal = stage.portal_rotation(1, &stage.portal.raw.key, &next);
    for (who, jws) in [("agent", of_agent), ("portal", of_portal)] {
        let other = stage.post(who, "application/json", &jws).await;
        assert_eq!((other.status, other.problem().as_str()), (415, "unsupported_media_type"), "{}", other.text());
        assert_eq!(stage.post(who, "Application/JOSE; x=y", &jws).await.status, 204);
    }
}

#[tokio::test]
async fn a_portal_that_has_one_key_is_told_so_when_it_lets_that_go() {
    let stage = Stage::new().await;
    let raw = &stage.portal.raw;
    let retire = async |signed_by: &SigningKey, kid: &str| {
        let bearer = raw.assertion().sign(signed_by).unwrap();
        let call = raw.send(|http, relay| http.delete(format!("{relay}/v1/portal/keys/{kid}")).bearer_auth(bearer));
        call.await
    };
    let only = retire(&raw.key, raw.key.kid().as_str()).await;
    assert_eq!((only.status, only.problem().as_str()), (409, "rotation_refused"));
    assert!(only.detail().contains("this is the portal's only key"), "{}", only.text());
    assert!(!only.text().contains("follow"), "{}", only.text());
    let next = signing();
    assert_eq!(stage.post("portal", JOSE, &stage.portal_rotation(1, &raw.key, &next)).await.status, 204);
    let own = retire(&next, next.kid().as_str()).await;
    assert_eq!((own.status, own.problem().as_str()), (409, "rotation_refused"));
    assert!(own.detail().contains("sign the assertion with the key that is to stay"), "{}", own.text());
    assert_eq!(retire(&next, raw.key.kid().as_str()).await.status, 204);
}
