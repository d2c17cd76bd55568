//! Comes in: makes keys, redeems an enrolment code, pins the portal's key.
//!
//! What is made is on disk before the relay is asked, so an enrolment that broke off in the middle is repeated with the
//! same code, as the same agent. `identity.json` is written last: an agent is enrolled when it is there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::events::{About, EventLog};
use super::format::Format;
use super::home::{Home, Identity, Keys, read_json, write_json};
use super::journal::{Journal, JournalError};
use super::pin::Pin;
use super::post::post;
use crate::clock::{Clock, Random};
use crate::net::NetError;
use crate::net::outbound::{Access, Outbound};
use crate::protocol::api::{AgentStatus, Enrolled, Enrollment};
use crate::protocol::enrollment::{Attestation, Proof};
use crate::protocol::enrolment_code::EnrolmentCode;
use crate::protocol::event::Event;
use crate::protocol::ids::{AgentId, InvitationId, JournalId, ObjectId, PortalId};
use crate::protocol::jose::{JoseError, SealingKey, SigningKey, Validity};
use crate::protocol::json;
use crate::protocol::limits::MAX_ASSERTION_LIFETIME;
use crate::protocol::problem::{Problem, ProblemCode};
use crate::storage::{FileError, PrivateFile, make_private_folder};

/// An enrolled agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Enrolment {
    /// The agent.
    pub agent: AgentId,
    /// What people compare with what the portal shows before they approve the agent.
    pub fingerprint: String,
    /// The portal whose commands it takes.
    pub portal: PortalId,
    /// Whether it still has to be approved.
    pub status: AgentStatus,
}

/// Why the agent is not enrolled. The same code can be used again, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// There is an identity in the folder.
    #[error("{folder}: agent {agent} is enrolled here already; to enrol another one, use an empty folder")]
    Already {
        /// The folder.
        folder: String,
        /// The agent.
        agent: AgentId,
    },
    /// Keys or a journal without an identity: perhaps a damaged agent.
    #[error("{file}: this file is left from another agent; move it away, or use an empty folder")]
    Leftover {
        /// The file.
        file: String,
    },
    /// The folder or a file in it can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The journal can't be made.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No connection can be prepared.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The cryptographic library refused.
    #[error("no keys can be made, or nothing signed: {0}")]
    Jose(#[from] JoseError),
    /// The relay did not answer; it may have enrolled the agent.
    #[error(
        "{relay}: no answer from the relay: {detail}; repeat this with the same code. A private CA of the relay's certificate \
             belongs into agent.toml in the agent's folder: [relay] ca_file = \"FILE\""
    )]
    NoAnswer {
        /// The relay.
        relay: String,
        /// Why.
        detail: String,
    },
    /// The relay said no.
    #[error("the relay says no: {0}")]
    Refused(#[source] Box<Problem>),
    /// Something else said no.
    #[error("{relay} refused the enrolment with status {status} and did not say why; is it the relay's address?")]
    NotUnderstood {
        /// What was taken for the relay.
        relay: String,
        /// The HTTP status.
        status: u16,
    },
    /// The relay answered with another portal's key, or for another agent. Nothing was kept.
    #[error(
        "the relay's answer does not fit the enrolment code ({0}): somebody may be in between. Nothing was kept; \
         ask the portal for a new code, and tell whoever runs the relay"
    )]
    Untrusted(&'static str),
}

impl EnrollError {
    /// Whether the code was the trouble, so that another one may help.
    #[must_use]
    pub fn wants_another_code(&self) -> bool {
        const NO_USE: [ProblemCode; 3] =
            [ProblemCode::InvalidEnrollment, ProblemCode::InvitationExpired, ProblemCode::InvitationUsed];
        match self {
            Self::Refused(problem) => problem.known().is_some_and(|code| NO_USE.contains(&code)),
            Self::Untrusted(_) => true,
            _ => false,
        }
    }
}

/// What has begun. It is made once for each invitation, so that the relay sees one agent, however often it is asked.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begun {
    #[serde(default)]
    pub(super) format: Format,
    pub(super) invitation: InvitationId,
    pub(super) agent: AgentId,
    pub(super) journal: JournalId,
}

/// Enrols an agent in `home`, or goes on with an enrolment that began with the same code.
///
/// # Errors
/// If the folder is taken, a file can't be written, or the relay does not answer, refuses, or can't be trusted.
pub async fn enroll(
    home: &Home,
    code: &EnrolmentCode,
    access: impl Into<Access>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Enrolment, EnrollError> {
    if let Some(identity) = home.identity()? {
        let folder = home.folder().display().to_string();
        return Err(EnrollError::Already { folder, agent: identity.agent });
    }
    make_private_folder(home.folder())?;
    let events = EventLog::open(&home.events(), clock.clone())?;
    let about = About { portal: Some(code.portal.clone()), ..About::default() };
    events.record(Event::OnboardingEventStart, &format!("enrolment begins at {}", code.relay), &about);
    let enrolled = attempt(home, code, &access.into(), &events, &*clock, &*random).await;
    match &enrolled {
        Ok(done) => {
            let message = format!("agent {} is enrolled; its fingerprint is {}", done.agent, done.fingerprint);
            events.record_done(Event::OnboardingEventSuccess, &message, &about);
        }
        Err(error) => events.record(Event::ServiceError, &error.to_string(), &about),
    }
    enrolled
}

async fn attempt(
    home: &Home,
    code: &EnrolmentCode,
    access: &Access,
    events: &EventLog,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<Enrolment, EnrollError> {
    let outbound = Outbound::new(access)?;
    let begun = begin(home, code, clock, random)?;
    let keys = make_keys(home, events, random)?;
    drop(Journal::create(&home.journal(), begun.journal).await?);
    let enrolled = redeem(&outbound, code, &request(code, &begun, &keys, clock, random)?).await?;
    let (keys_shown, rotations) = (&enrolled.portal_keys, &enrolled.portal_rotations);
    let pinned = Pin::found(&code.portal_key, (&code.portal, &code.relay), keys_shown, rotations);
    let (Some(pinned), true, true) = (pinned, enrolled.agent == begun.agent, enrolled.portal == code.portal) else {
        forget(home)?;
        return Err(EnrollError::Untrusted("the portal's key, the portal, or the agent is another one"));
    };
    let identity = Identity {
        format: Format,
        agent: begun.agent,
        tenant: code.tenant.clone(),
        relay: code.relay.clone(),
        journal: begun.journal,
        portals: [(code.portal.clone(), pinned)].into(),
    };
    write_json(&home.identity_file(), &identity)?;
    home.enrolment_file().remove()?;
    let fingerprint = keys.public().fingerprint(begun.agent);
    Ok(Enrolment { agent: begun.agent, fingerprint, portal: code.portal.clone(), status: enrolled.status })
}

/// What this invitation began with, or a new beginning.
fn begin(home: &Home, code: &EnrolmentCode, clock: &dyn Clock, random: &dyn Random) -> Result<Begun, EnrollError> {
    let file = home.enrolment_file();
    match read_json::<Begun>(&file)? {
        Some(begun) if begun.invitation == code.invitation => return Ok(begun),
        // A new code: what began with the old one came to nothing.
        Some(_) => forget(home)?,
        None => {}
    }
    // Whatever is there now was not made here.
    let (signing, sealing, journal) = (home.signing_key_file(), home.sealing_key_file(), home.journal());
    if let Some(left) = [signing.path(), sealing.path(), &journal].into_iter().find(|path| path.exists()) {
        return Err(EnrollError::Leftover { file: left.display().to_string() });
    }
    let (agent, journal) = (AgentId::new(clock, random), JournalId::new(clock, random));
    let begun = Begun { format: Format, invitation: code.invitation, agent, journal };
    write_json(&file, &begun)?;
    Ok(begun)
}

fn make_keys(home: &Home, events: &EventLog, random: &dyn Random) -> Result<Keys, EnrollError> {
    let (signing, sealing) = (home.signing_key_file(), home.sealing_key_file());
    if signing.exists() && sealing.exists() {
        return Ok(home.keys()?);
    }
    // Nothing was sent to the relay before both were there.
    let keys = Keys { signing: SigningKey::generate(random)?, sealing: SealingKey::generate()? };
    signing.replace(&keys.signing.to_jwk())?;
    sealing.replace(&keys.sealing.to_jwk()?)?;
    events.record_done(Event::KeyPairCreationSuccess, "the agent has made its keys", &About::default());
    Ok(keys)
}

pub(super) fn request(
    code: &EnrolmentCode,
    begun: &Begun,
    keys: &Keys,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<Enrollment, EnrollError> {
    let public = keys.public();
    let proof = Proof {
        iss: begun.agent,
        sub: begun.agent,
        aud: code.relay.clone(),
        jti: ObjectId::new(clock, random),
        validity: Validity::starting(clock.now(), MAX_ASSERTION_LIFETIME),
        tenant: code.tenant.clone(),
        invitation: code.invitation,
        journal: begun.journal,
        signing_key: public.signing.thumbprint(),
        sealing_key: public.sealing.thumbprint(),
    };
    let attestation = Attestation::new(code.tenant.clone(), begun.agent, &public);
    Ok(Enrollment {
        tenant: code.tenant.clone(),
        invitation: code.invitation,
        token: code.token.clone(),
        agent: begun.agent,
        journal: begun.journal,
        name: crate::host::name().into(),
        proof: proof.sign(&keys.signing)?,
        attestation: attestation.sign(code.invitation, code.secret.expose())?,
        signing_key: public.signing,
        sealing_key: public.sealing,
    })
}

pub(super) async fn redeem(
    outbound: &Outbound,
    code: &EnrolmentCode,
    body: &Enrollment,
) -> Result<Enrolled, EnrollError> {
    let no_answer = |detail: String| EnrollError::NoAnswer { relay: code.relay.clone(), detail };
    let body = serde_json::to_vec(body).map_err(|e| no_answer(e.to_string()))?;
    let url = format!("{}/v1/enrollments", code.relay);
    let (status, body) = post(outbound, &url, "application/json", body).await.map_err(no_answer)?;
    if status.is_success() {
        return json::read(&body).map_err(|e| no_answer(e.to_string()));
    }
    Err(match json::read(&body) {
        Ok(problem) => EnrollError::Refused(Box::new(problem)),
        Err(_) => EnrollError::NotUnderstood { relay: code.relay.clone(), status: status.as_u16() },
    })
}

/// Removes what was made for an enrolment that came to nothing; the note that it began goes last.
fn forget(home: &Home) -> Result<(), FileError> {
    let journal = PrivateFile::new(home.journal());
    let made = [home.signing_key_file(), home.sealing_key_file(), journal, home.enrolment_file()];
    made.iter().try_for_each(PrivateFile::remove)
}
