//! One unit of several in which something is missing: everybody else is served, it answers for itself, and when it is mended
//! that is known soon, however it was mended.

use std::time::Duration;

use writeback_relay::storage::PrivateFile;

use super::{NEW, OLD, enroll_and_approve, only_new_logs_on};
use crate::support::agent::{Agent, samba_in};
use crate::support::portal_cli::PortalCli;
use crate::support::relay::{Relay, TENANT};
use crate::support::samba::{User, dc};
use crate::support::samba_rights::Service;
use crate::support::{eventually, eventually_within};

const RESET: &str = "CR;00299570-246d-11d0-a768-00aa006e0529";
const OTHERS: [&str; 3] = [
    "CR;ab721a53-1e2f-11d0-9819-00aa0040529b",
    "WP;28630ebf-41d5-11d1-a9c1-0000f80367c1",
    "WP;bf967a0a-0de6-11d0-a285-00aa003049e2",
];
/// The agent checks again every minute while something is red.
const A_MINUTE_AND_MORE: Duration = Duration::from_secs(120);
const CHECKS: &str = "The running agent checks again now.";

/// Two units, of which the service account may do everything in the first, and not reset in the second.
struct Place {
    bad_unit: String,
    service: Service,
    good: User,
    bad: User,
    portal: PortalCli,
    agent: Agent,
    _relay: Relay,
}

fn entries(service: &Service, rights: &[&str]) -> String {
    let entry = |right: &&str| format!("(OA;CIIO;{right};bf967aba-0de6-11d0-a285-00aa003049e2;{})", service.sid);
    rights.iter().map(entry).collect()
}

impl Place {
    async fn new(name: &str) -> Self {
        let service = dc().create_service(&format!("svc-{name}")).await;
        let [good_unit, bad_unit] = ["good", "bad"].map(|which| format!("{name}-{which}"));
        let good_unit = dc().create_unit(&good_unit, dc().base_dn()).await;
        let bad_unit = dc().create_unit(&bad_unit, dc().base_dn()).await;
        dc().permit(&good_unit, &entries(&service, &[&[RESET][..], &OTHERS].concat())).await;
        dc().permit(&bad_unit, &entries(&service, &OTHERS)).await;
        let good = dc().create_user_in(name, &good_unit, OLD).await;
        let bad = dc().create_user_in(name, &bad_unit, OLD).await;
        let relay = Relay::start().await;
        let portal = PortalCli::init(&relay).await;
        let mut agent = Agent::new(&relay);
        let account = (service.user.upn.clone(), service.password_file.clone());
        agent.configure(&samba_in(&dc().ldaps_url(), &[&good_unit, &bad_unit], account));
        enroll_and_approve(&portal, &agent).await;
        agent.start();
        let place = Self { bad_unit, service, good, bad, portal, agent, _relay: relay };
        eventually("the relay has heard of it", || async { place.is_degraded().await == Some(true) }).await;
        place
    }

    /// Whether not all of it is possible; nothing if nothing is.
    async fn is_degraded(&self) -> Option<bool> {
        let said = self.portal.run(&["availability", TENANT, "--json"]).await;
        (said.status == 0).then(|| said.json()["degraded"] == true)
    }
}

#[tokio::test]
async fn a_unit_without_a_right_answers_for_itself_and_what_is_granted_on_the_host_is_known_at_once() {
    let place = Place::new("itself").await;
    let said = place.portal.availability().await;
    assert!(said.status == 0 && said.out.contains("not everywhere"), "{said:?}");
    let agents = place.portal.run(&["agents", TENANT]).await.out;
    assert!(agents.contains("degraded") && agents.contains(&place.bad_unit), "{agents}");

    let said = place.portal.reset(&place.good.upn, NEW, &[]).await;
    assert_eq!(said.status, 0, "{said:?}");
    only_new_logs_on(&place.good.upn).await;
    let said = place.portal.reset(&place.bad.upn, NEW, &[]).await;
    assert!(said.status == 2 && said.out.contains("insufficient_rights"), "{said:?}");
    assert!(said.out.contains("signed by agent"), "{said:?}");
    let said = place.portal.change(&place.bad.upn, OLD, "Other-Passw0rd-3").await;
    assert_eq!(said.status, 0, "{said:?}");
    let said = place.portal.unlock(&place.bad.upn).await;
    assert_eq!(said.status, 0, "{said:?}");
    let of_bad = ["availability", TENANT, "--user", &place.bad.upn, "--operation", "unlock_account"];
    let said = place.portal.run(&of_bad).await;
    assert!(
        said.status == 0 && said.out.contains("unlock_account") && !said.out.contains("not everywhere"),
        "{said:?}"
    );

    let (name, password) = dc().administrator_account();
    let file = place.agent.home().join("admin-password");
    PrivateFile::new(&file).replace(password).unwrap();
    let granted = place.agent.call(&["grant", "--apply", name, "--password-file", file.to_str().unwrap()]).await;
    assert!(granted.status == 0 && granted.err.contains(CHECKS), "{granted:?}");
    eventually("it is known that it is mended", || async { place.is_degraded().await == Some(false) }).await;
    let said = place.portal.reset(&place.bad.upn, NEW, &[]).await;
    assert_eq!(said.status, 0, "{said:?}");
}

#[tokio::test]
async fn what_is_mended_elsewhere_is_known_within_a_minute() {
    let place = Place::new("elsewhere").await;
    dc().permit(&place.bad_unit, &entries(&place.service, &[RESET])).await;
    let mended = || async { place.is_degraded().await == Some(false) };
    eventually_within(A_MINUTE_AND_MORE, "it is known that it is mended", mended).await;
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_known_after_the_first_command_that_misses_it() {
    let place = Place::new("taken").await;
    let mended = dc().sddl(&place.bad_unit).await;
    dc().permit(&place.bad_unit, &entries(&place.service, &[RESET])).await;
    let checked = place.agent.call(&["check"]).await;
    assert!(checked.status == 1 && checked.err.contains(CHECKS), "{checked:?}");
    eventually("it is green", || async { place.is_degraded().await == Some(false) }).await;
    // Green, the next check would be in an hour.
    dc().set_sddl(&place.bad_unit, &mended).await;
    let said = place.portal.reset(&place.bad.upn, NEW, &[]).await;
    assert!(said.status == 2 && said.out.contains("insufficient_rights"), "{said:?}");
    eventually("it is known", || async { place.is_degraded().await == Some(true) }).await;
}

#[tokio::test]
async fn where_no_agent_runs_nothing_is_said_of_one() {
    let relay = Relay::start().await;
    let agent = Agent::new(&relay);
    agent.configure(&samba_in(&dc().ldaps_url(), &[], dc().service_account()));
    let checked = agent.call(&["check"]).await;
    assert!(!checked.err.contains("running agent") && !checked.out.contains("running agent"), "{checked:?}");
}
