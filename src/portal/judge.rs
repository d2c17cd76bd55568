//! One tenant's agents as the relay shows them, judged: whose attestation holds, which rotations lead on from the pinned
//! keys, and what does not fit.

use super::agents::{Agent, Warning};
use super::trust_store::{Contents, History, RetiredKey, Standing};
use crate::clock::UnixTime;
use crate::protocol::api::{AgentStatus, AgentView};
use crate::protocol::enrollment::{AgentKeys, Attestation};
use crate::protocol::ids::{PortalId, TenantId};
use crate::protocol::jose::{JoseError, Thumbprint};
use crate::protocol::rotation::{Acknowledgement, AgentRotation};

/// Judges by the trust store what the relay says of one tenant.
pub(super) struct Judge<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) portal: &'a PortalId,
    pub(super) relay: &'a str,
    /// This portal's own rotation that is under way.
    pub(super) rotation: Option<(u64, Thumbprint)>,
    pub(super) now: UnixTime,
}

impl Judge<'_> {
    pub(super) fn all(&self, store: &mut Contents, listed: Vec<AgentView>) -> Vec<Agent> {
        let mut agents: Vec<Agent> = listed.into_iter().map(|view| self.one(store, view)).collect();
        let ours = store.tenants.get(self.tenant).map(|t| t.agents.iter()).into_iter().flatten();
        let missing = ours.filter_map(|(id, standing)| {
            let keys = standing.keys().filter(|_| agents.iter().all(|a| a.agent != *id))?;
            Some(Agent {
                agent: *id,
                fingerprint: keys.fingerprint(*id),
                standing: Some(standing.clone()),
                relay: None,
                warnings: vec![Warning::NotListed],
            })
        });
        let missing: Vec<Agent> = missing.collect();
        agents.extend(missing);
        agents
    }

    fn one(&self, store: &mut Contents, view: AgentView) -> Agent {
        let (id, shown) = (view.agent, view.keys());
        let mut warnings = Vec::new();
        if store.standing(self.tenant, id).is_none() && view.status != AgentStatus::Revoked {
            match self.verify(store, &view, &shown) {
                Ok(standing) => drop(store.tenant(self.tenant).agents.insert(id, standing)),
                Err(warning) => warnings.push(warning),
            }
        }
        let known = store.tenants.get_mut(self.tenant).and_then(|known| known.agents.get_mut(&id));
        if let Some((keys, history)) = known.and_then(Standing::pinned) {
            if let Err(error) = self.follow(&view, keys, history) {
                warnings.push(Warning::RotationNotFollowed { reason: error.to_string() });
            }
            self.note_acknowledgement(&view, keys, history);
        }
        let standing = store.standing(self.tenant, id).cloned();
        let pinned = standing.as_ref().and_then(Standing::keys);
        if pinned.is_some_and(|keys| *keys != shown) {
            warnings.push(Warning::KeysDiffer { shown: shown.fingerprint(id) });
        }
        if let Some(Err(error)) = pinned.map(AgentKeys::check) {
            warnings.push(Warning::KeyUnusable { reason: error.to_string() });
        }
        match (&standing, view.status) {
            (None | Some(Standing::Attested { .. }), AgentStatus::Approved) => warnings.push(Warning::NotApprovedHere),
            (Some(Standing::Trusted { .. }), AgentStatus::Revoked) => warnings.push(Warning::RevokedAtRelay),
            (Some(Standing::Trusted { .. }), _) if view.refuses_portal() => warnings.push(Warning::PortalNotTrusted),
            _ => {}
        }
        let fingerprint = pinned.unwrap_or(&shown).fingerprint(id);
        Agent { agent: id, fingerprint, standing, relay: Some(view), warnings }
    }

    /// Pins the keys to which the pinned ones lead on. A rotation that is old, foreign or altered leads nowhere, and then
    /// the keys that the relay shows are not the pinned ones.
    ///
    /// # Errors
    /// What is wrong with the last one that is none at all. An old one that does not lead on any more is as it should be.
    fn follow(&self, view: &AgentView, keys: &mut AgentKeys, history: &mut History) -> Result<(), JoseError> {
        let mut read = Ok(());
        for jws in &view.rotations {
            let rotation = match AgentRotation::read(jws) {
                Ok(rotation) => rotation,
                Err(error) => {
                    read = Err(error);
                    continue;
                }
            };
            let whose = (&view.agent, Some(self.tenant), self.relay);
            if rotation.follows(whose, history.seq, keys).is_ok() {
                history.retired.push(RetiredKey { signing_key: keys.signing.clone(), since: self.now });
                history.seq = rotation.seq;
                *keys = rotation.keys;
            }
        }
        read
    }

    /// Notes the agent's own word that it takes this portal's new key.
    fn note_acknowledgement(&self, view: &AgentView, keys: &AgentKeys, history: &mut History) {
        let (Some((seq, kid)), Some(jws)) = (&self.rotation, &view.acknowledgement) else { return };
        let signed_by = std::iter::once(&keys.signing).chain(history.retired.iter().map(|old| &old.signing_key));
        match Acknowledgement::verify(jws, signed_by, (view.agent, self.tenant, self.portal)) {
            Ok(said) if said.seq == *seq && said.key == *kid => history.acknowledged = *seq,
            _ => {}
        }
    }

    /// Verifies the attestation of an agent that is new here. If it holds, the invitation is used up. It may be about keys
    /// that the agent has rotated since: then those are pinned, and its rotations are followed from there.
    fn verify(&self, store: &mut Contents, view: &AgentView, shown: &AgentKeys) -> Result<Standing, Warning> {
        let missing = || Warning::NoInvitation { invitation: view.invitation.to_string() };
        let invitations = &mut store.tenants.get_mut(self.tenant).ok_or_else(missing)?.invitations;
        let invitation = invitations.get(&view.invitation).ok_or_else(missing)?;
        let holds = |keys: &AgentKeys| {
            Attestation::new(self.tenant.clone(), view.agent, keys).verify(
                &view.attestation,
                view.invitation,
                invitation.secret.expose(),
            )
        };
        let before = view.rotations.iter().filter_map(|jws| AgentRotation::read(jws).ok());
        let attested = match (holds(shown), before.map(|rotation| rotation.previous).find(|keys| holds(keys).is_ok())) {
            (Ok(()), _) => shown.clone(),
            (Err(_), Some(keys)) => keys,
            (Err(error), None) => return Err(Warning::AttestationFails { reason: error.to_string() }),
        };
        attested.check().map_err(|error| Warning::KeyUnusable { reason: error.to_string() })?;
        // A code that is found after its time opens nothing by itself, whatever the relay would redeem.
        let trusted = invitation.auto_approve && self.now < invitation.expires_at;
        invitations.remove(&view.invitation);
        let (keys, since, history) = (attested, self.now, History::default());
        Ok(if trusted {
            Standing::Trusted { keys, since, history }
        } else {
            Standing::Attested { keys, since, history }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, System};
    use crate::portal::trust_store::{Invitation, TrustStore};
    use crate::protocol::enrolment_code::Secret;
    use crate::protocol::ids::{AgentId, InvitationId, ObjectId};
    use crate::protocol::jose::{SealingKey, SigningKey};
    use crate::protocol::rotation::About;

    #[test]
    fn auto_approval_ends_with_the_invitation() {
        let dir = tempfile::tempdir().unwrap();
        TrustStore::create(dir.path()).unwrap();
        let mut store = TrustStore::open(dir.path(), System::clock()).unwrap().read().unwrap();
        let tenant: TenantId = "contoso".parse().unwrap();
        let expires_at = UnixTime(1000);
        let mut enrolled_and_judged_at = |now| {
            let (id, invitation) = (AgentId::new(&System, &System), InvitationId::new(&System, &System));
            let open = Invitation { secret: Secret::new([3; 32]), expires_at, auto_approve: true };
            store.tenant(&tenant).invitations.insert(invitation, open);
            let signing_key = SigningKey::generate(&System).unwrap().public().clone();
            let sealing_key = SealingKey::generate().unwrap().public().clone();
            let keys = AgentKeys { signing: signing_key.clone(), sealing: sealing_key.clone() };
            let view = AgentView {
                agent: id,
                name: "".into(),
                status: AgentStatus::Pending,
                online: true,
                version: None,
                enrolled_at: System.now(),
                invitation,
                signing_key,
                sealing_key,
                attestation: Attestation::new(tenant.clone(), id, &keys).sign(invitation, &[3; 32]).unwrap(),
                preflight: None,
                rotations: Vec::new(),
                acknowledgement: None,
                trusts_portal: None,
            };
            let (portal, relay) = ("portal-1".parse().unwrap(), "https://relay.example");
            let judge = Judge { tenant: &tenant, portal: &portal, relay, rotation: None, now };
            let agent = judge.one(&mut store, view);
            assert!(store.tenant(&tenant).invitations.is_empty(), "the secret was not destroyed");
            agent.standing
        };
        assert!(matches!(enrolled_and_judged_at(UnixTime(999)), Some(Standing::Trusted { .. })));
        // Somebody who found the code later, and a relay that redeems it, still meet a person.
        assert!(matches!(enrolled_and_judged_at(expires_at), Some(Standing::Attested { .. })));
    }

    const RELAY: &str = "https://relay.example";

    struct Keys {
        signing: SigningKey,
        public: AgentKeys,
    }

    fn keys() -> Keys {
        let signing = SigningKey::generate(&System).unwrap();
        let sealing = SealingKey::generate().unwrap().public().clone();
        Keys { public: AgentKeys { signing: signing.public().clone(), sealing }, signing }
    }

    fn rotation(agent: AgentId, from: &Keys, to: &Keys, seq: u64, by: &SigningKey) -> String {
        let about = About {
            iss: agent,
            relay: RELAY.to_owned(),
            tenant: Some("contoso".parse().unwrap()),
            jti: ObjectId::new(&System, &System),
            iat: System.now(),
        };
        AgentRotation::new(about, seq, from.public.clone(), to.public.clone(), &to.signing).unwrap().sign(by).unwrap()
    }

    fn shown(agent: AgentId, keys: &Keys, rotations: Vec<String>) -> AgentView {
        AgentView {
            agent,
            name: "".into(),
            status: AgentStatus::Approved,
            online: true,
            version: None,
            enrolled_at: System.now(),
            invitation: InvitationId::new(&System, &System),
            signing_key: keys.public.signing.clone(),
            sealing_key: keys.public.sealing.clone(),
            attestation: String::new(),
            preflight: None,
            rotations,
            acknowledgement: None,
            trusts_portal: None,
        }
    }

    /// A store that trusts the agent with these keys, after this rotation.
    fn trusting(agent: AgentId, keys: &Keys, seq: u64) -> Contents {
        let dir = tempfile::tempdir().unwrap();
        TrustStore::create(dir.path()).unwrap();
        let mut store = TrustStore::open(dir.path(), System::clock()).unwrap().read().unwrap();
        let history = History { seq, ..History::default() };
        let standing = Standing::Trusted { keys: keys.public.clone(), since: UnixTime(0), history };
        store.tenant(&"contoso".parse().unwrap()).agents.insert(agent, standing);
        store
    }

    fn judged(store: &mut Contents, view: AgentView) -> Agent {
        let (tenant, portal) = ("contoso".parse().unwrap(), "portal-1".parse().unwrap());
        Judge { tenant: &tenant, portal: &portal, relay: RELAY, rotation: None, now: UnixTime(7) }.one(store, view)
    }

    #[test]
    fn a_rotation_is_followed_over_several_steps_and_the_old_key_still_speaks_for_what_was_sent_before() {
        let (id, first, second, third) = (AgentId::new(&System, &System), keys(), keys(), keys());
        let mut store = trusting(id, &first, 0);
        let chain =
            vec![rotation(id, &first, &second, 1, &first.signing), rotation(id, &second, &third, 2, &second.signing)];
        let agent = judged(&mut store, shown(id, &third, chain.clone()));
        assert!(agent.usable() && agent.warnings.is_empty(), "{agent:?}");
        let verifying = agent.standing.unwrap().verifying().unwrap();
        assert_eq!(verifying.at(UnixTime(7)).count(), 3);
        assert_eq!(verifying.at(UnixTime(7 + 3601)).collect::<Vec<_>>(), [&third.public.signing]);
        // The same again changes nothing.
        let before = store.clone();
        assert!(judged(&mut store, shown(id, &third, chain)).usable());
        assert_eq!(store, before);
    }

    #[test]
    fn a_hostile_relay_can_not_swap_a_key_at_a_rotation_nor_replay_hide_or_renumber_one() {
        let (id, first, second, own) = (AgentId::new(&System, &System), keys(), keys(), keys());
        let genuine = rotation(id, &first, &second, 1, &first.signing);
        let refused = |store: &mut Contents, what: &str, view: AgentView| {
            let before = store.clone();
            let agent = judged(store, view);
            assert!(!agent.usable() && agent.keys_differ(), "{what}: {agent:?}");
            assert_eq!(*store, before, "{what}: something was pinned");
        };
        let mut fresh = trusting(id, &first, 0);
        refused(&mut fresh, "other keys, no rotation", shown(id, &own, vec![]));
        refused(&mut fresh, "signed by itself", shown(id, &own, vec![rotation(id, &first, &own, 1, &own.signing)]));
        refused(
            &mut fresh,
            "from keys of its own",
            shown(id, &own, vec![rotation(id, &own, &second, 1, &own.signing)]),
        );
        let another = AgentId::new(&System, &System);
        let foreign = rotation(another, &first, &second, 1, &first.signing);
        refused(&mut fresh, "another agent's", shown(id, &second, vec![foreign]));
        refused(&mut fresh, "altered", shown(id, &second, vec![genuine.replace('.', ".A")]));
        // A step is hidden: the next one leads nowhere.
        let third = keys();
        let next = rotation(id, &second, &third, 2, &second.signing);
        refused(&mut fresh, "a step hidden", shown(id, &third, vec![next]));
        // Pinned at 2, as if by way of 1: the way back is closed, by the number and by the key.
        let mut later = trusting(id, &first, 2);
        refused(&mut later, "an old number", shown(id, &second, vec![genuine.clone()]));
        let mut followed = trusting(id, &second, 1);
        refused(&mut followed, "rolled back", shown(id, &first, vec![genuine.clone()]));
        // All of it hidden: the old keys go on. Nothing is sealed to a stranger.
        assert!(judged(&mut fresh, shown(id, &first, vec![])).usable());
        assert!(judged(&mut fresh, shown(id, &second, vec![genuine])).usable());
    }
}
