//! One trace, from the portal's request through both nodes, the bus, the frame and the agent to the LDAP modify.

use crate::support::agent::{Agent, samba};
use crate::support::cluster::{Cluster, KEY};
use crate::support::collector::{Collector, Span};
use crate::support::eventually;
use crate::support::portal_cli::PortalCli;
use crate::support::redis::Redis;
use crate::support::samba::{Ou, SERVICE_PASSWORD, dc};
use crate::support::secrets::{Needle, private_key};

const OLD: &str = "Initial-Passw0rd1";
const NEW: &str = "Traced-Passw0rd-2";

/// 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
const WAY: [(&str, &str, i32); 10] = [
    ("writeback-portal", "request command", 1),
    ("writeback-portal", "POST", 3),
    ("writeback-relay", "POST /v1/tenants/{tenant}/commands", 2),
    ("writeback-relay", "dispatch command", 1),
    ("writeback-relay", "send node", 4),
    ("writeback-relay", "process node", 5),
    ("writeback-relay", "send session", 4),
    ("writeback-agent", "process command", 5),
    ("writeback-agent", "LDAP search", 3),
    ("writeback-agent", "LDAP modify", 3),
];

struct Stage {
    collector: Collector,
    cluster: Cluster,
    portal: PortalCli,
    agent: Agent,
    code: String,
}

/// Three nodes, an agent at the first, and a portal at the second.
async fn stage() -> Stage {
    let collector = Collector::start().await;
    let settings = format!("[session]\nheartbeat_seconds = 60\n[telemetry]\notlp_endpoint = {:?}\n", collector.url());
    let cluster = Cluster::start_with(3, Redis::single().await, &settings).await;
    let mut portal = PortalCli::init(&cluster.nodes[0]).await;
    let mut agent = Agent::new(&cluster.nodes[0]);
    let telemetry = format!("[telemetry]\notlp_endpoint = {:?}\n", collector.url());
    // One session, so that it is known where it is.
    agent.configure(&format!("sessions = 1\n{}{telemetry}", samba(&dc().ldaps_url())));
    let said = portal.run(&["invite", "contoso", "--auto-approve"]).await;
    let code = said.out.trim().to_owned();
    assert_eq!(agent.enroll(&code).await.status, 0);
    agent.start();
    portal.traced(collector.url());
    eventually("the agent is there", || async {
        let availability = portal.run(&["availability", "contoso", "--json"]).await;
        portal.run(&["agents", "contoso"]).await;
        availability.status == 0 && availability.json()["available"] == true
    })
    .await;
    cluster.choose(1);
    Stage { collector, cluster, portal, agent, code }
}

/// The spans of this name, each of which has one of these for its parent.
fn children<'a>(trace: &'a [Span], parents: &[&Span], name: &str) -> Vec<&'a Span> {
    let of = |span: &&Span| span.name == name && parents.iter().any(|parent| parent.id == span.parent);
    trace.iter().filter(of).collect()
}

#[tokio::test]
async fn a_reset_is_one_trace_from_the_portals_request_to_the_ldap_modify_and_no_secret_is_seen_on_the_way() {
    let mut stage = stage().await;
    let user = dc().create_user("traced", Ou::Staff, OLD).await;
    let answer = stage.portal.reset(&user.upn, NEW, &["--json"]).await.json();
    assert_eq!(answer["outcome"]["code"], "password_reset", "{answer}");
    let id = answer["trace_id"].as_str().unwrap().to_owned();
    let trace = || stage.collector.trace(&id);
    eventually("every process has sent its spans", || async {
        let trace = trace();
        let missing = |(service, name, _): &&(&str, &str, i32)| {
            !trace.iter().any(|span| span.service == *service && span.name == *name)
        };
        !WAY.iter().any(|step| missing(&step)) && trace.iter().any(|span| span.name == "store outcome")
    })
    .await;
    let trace = trace();

    // Each is a part of the one before it, and the LDAP operations are parts of the agent's work.
    let mut steps: Vec<Vec<&Span>> = vec![trace.iter().filter(|span| span.parent.is_empty()).collect()];
    assert_eq!(steps[0].len(), 1, "a trace has one beginning: {trace:#?}");
    for (service, name, kind) in &WAY[1..] {
        let above = if name.starts_with("LDAP") { &steps[7] } else { &steps[steps.len() - 1] };
        let found = children(&trace, above, name);
        assert!(!found.is_empty(), "{name} is no part of {above:#?}: {trace:#?}");
        for span in &found {
            assert_eq!((span.service.as_str(), span.kind), (*service, *kind), "{span:?}");
            assert!(span.began <= span.ended, "{span:?}");
        }
        steps.push(found);
    }
    assert_eq!((steps[0][0].service.as_str(), steps[0][0].name.as_str()), (WAY[0].0, WAY[0].1));
    for once in [2, 3, 4, 5, 6, 7, 9] {
        assert_eq!(steps[once].len(), 1, "{}: {trace:#?}", WAY[once].1);
    }
    let [request, dispatch, sent, taken, frame] = [2, 3, 4, 5, 6].map(|step| steps[step][0]);
    assert_eq!(request.attributes["http.request.method"], "POST");
    assert_eq!(request.attributes["http.route"], "/v1/tenants/{tenant}/commands");
    assert_eq!(request.attributes["http.response.status_code"], "200");
    let command = answer["outcome"]["command"].as_str().unwrap();
    assert_eq!(dispatch.attributes["writeback.command.id"], command);
    assert_eq!(dispatch.attributes["writeback.agent.id"], stage.agent.id().to_string());
    assert_eq!(sent.attributes["messaging.destination.name"], taken.attributes["messaging.destination.name"]);
    assert_eq!(steps[7][0].attributes["writeback.command.id"], command);
    // Two nodes.
    assert_eq!([request, dispatch, sent].map(|span| &span.instance), [&request.instance; 3]);
    assert_eq!(frame.instance, taken.instance);
    assert_ne!(taken.instance, request.instance);
    assert_eq!(children(&trace, &[frame], "store outcome").len(), 1);

    // The support code is in the answer, in the event and in both nodes' logs.
    assert_eq!(stage.agent.event(31002, &user.upn).await["trace_id"], id.as_str());
    for node in &stage.cluster.nodes[..2] {
        assert!(node.log().contains(&id));
    }
    assert!(!stage.cluster.nodes[2].log().contains(&id));

    // What else can be seen: a refusal, and a password that the directory does not take.
    stage.portal.reset(&user.upn, "weak", &[]).await;
    stage.agent.terminate().await;
    no_secret(&stage).await;
}

async fn no_secret(stage: &Stage) {
    let code: writeback_relay::protocol::enrolment_code::EnrolmentCode = stage.code.parse().unwrap();
    let node = &stage.cluster.nodes[0];
    let admin_token = std::fs::read_to_string(node.data_dir().join("admin.token")).unwrap();
    let needles = [
        Needle::of_text("the new password", NEW),
        Needle::of_text("the old password", OLD),
        Needle::of_text("the service account's password", SERVICE_PASSWORD),
        Needle::of_text("the admin token", admin_token.trim()),
        Needle::of_text("the cluster key", KEY),
        Needle::of_text("the enrolment code", &stage.code),
        Needle::of_bytes("the enrolment token", code.token.expose()),
        Needle::of_bytes("the attestation secret", code.secret.expose()),
        private_key(stage.agent.home().join("signing-key.jwk")),
        private_key(stage.agent.home().join("sealing-key.jwk")),
        private_key(stage.portal.home().join("signing-key.jwk")),
    ];
    let mut seen = vec![("the spans".to_owned(), stage.collector.bytes())];
    seen.push(("the agent's log".to_owned(), stage.agent.log().into_bytes()));
    for (n, node) in stage.cluster.nodes.iter().enumerate() {
        seen.push((format!("the log of node {n}"), node.log().into_bytes()));
        seen.push((format!("the metrics of node {n}"), node.metrics().await.into_bytes()));
    }
    for (place, bytes) in &seen {
        for needle in &needles {
            assert!(!needle.is_in(bytes), "{} is in {place}", needle.name);
        }
        // A JWS or a JWE begins like one of these.
        let token = |window: &[u8]| window == b"eyJ0eX" || window == b"eyJhbG";
        assert!(!bytes.windows(6).any(token), "a token is in {place}");
    }
    let agent = Needle::of_text("the agent's id", &stage.agent.id().to_string());
    assert!(agent.is_in(&seen[0].1), "the search finds what is there");
}
