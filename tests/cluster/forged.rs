//! Somebody can write to Redis, and says what nodes say to each other.

use aws_lc_rs::hmac;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, Value as Said, cmd};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use writeback_relay::clock::System;
use writeback_relay::protocol::ids::ObjectId;
use writeback_relay::protocol::jose::{SigningKey, sha256};
use writeback_relay::protocol::outcome::Code;

use super::{JANE, NEW, command, conclude, stored};
use crate::support::cluster::{Cluster, KEY};
use crate::support::deadline;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::relay::{RawPortal, now};

/// Listens on a node's channel, and speaks on it.
struct Intruder {
    redis: MultiplexedConnection,
    heard: mpsc::UnboundedReceiver<PushInfo>,
    channel: String,
}

impl Intruder {
    async fn on_the_channel_of(cluster: &Cluster, node: usize) -> Self {
        let said = cluster.redis.cli(6379, &["PUBSUB", "SHARDCHANNELS"]);
        let mut channels: Vec<_> = said.split_whitespace().map(str::to_owned).collect();
        // Ids of nodes sort by their age.
        channels.sort();
        let url = format!("redis://{}?protocol=resp3", cluster.redis.addr(6379));
        let (pushes, heard) = mpsc::unbounded_channel();
        let settings = AsyncConnectionConfig::new().set_push_sender(pushes);
        let client = Client::open(url).unwrap();
        let mut redis = client.get_multiplexed_async_connection_with_config(&settings).await.unwrap();
        cmd("SSUBSCRIBE").arg(&channels[node]).exec_async(&mut redis).await.unwrap();
        Self { redis, heard, channel: channels.swap_remove(node) }
    }

    /// The next message that hands over a command.
    async fn overhears(&mut self) -> Vec<u8> {
        let deliver = async {
            loop {
                let push = self.heard.recv().await.unwrap();
                let Some(Said::BulkString(sealed)) = push.data.into_iter().nth(1) else { continue };
                if push.kind == PushKind::SMessage && parsed(&sealed)["body"].get("Deliver").is_some() {
                    return sealed;
                }
            }
        };
        deadline("a command is handed over", deliver).await
    }

    async fn says(&mut self, bytes: &[u8]) {
        let listeners: u64 = cmd("SPUBLISH").arg(&self.channel).arg(bytes).query_async(&mut self.redis).await.unwrap();
        assert_eq!(listeners, 2, "the node, and the intruder");
    }
}

fn parsed(sealed: &[u8]) -> Value {
    serde_json::from_slice(&sealed[32..]).unwrap()
}

fn sealed(key: &str, message: &Value) -> Vec<u8> {
    let text = serde_json::to_vec(message).unwrap();
    let mut sealed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), &text).as_ref().to_vec();
    sealed.extend(text);
    sealed
}

/// The overheard message, as it would be with another command in it.
fn about(overheard: &Value, agent: &RawAgent, by: &RawPortal) -> Value {
    let (claims, jws) = by.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let mut message = overheard.clone();
    message["at"] = json!(now());
    let deliver = &mut message["body"]["Deliver"];
    deliver["question"] = json!(ObjectId::new(&System, &System));
    deliver["entry"]["key"]["command"] = json!(claims.jti);
    deliver["entry"]["body_sha256"] = json!(sha256(jws.as_bytes()));
    deliver["entry"]["jws"] = json!(jws);
    message
}

#[tokio::test]
async fn what_is_forged_altered_or_played_again_on_a_nodes_channel_delivers_nothing_and_sessions_live_on() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    let portal = cluster.nodes[0].portal("portal-1").await;
    let agent = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    cluster.choose(1);
    let mut session = agent.open().await;
    cluster.choose(0);
    let mut intruder = Intruder::on_the_channel_of(&cluster, 1).await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    let genuine = intruder.overhears().await;
    let (_, first) = command(&mut session).await;
    let message = parsed(&genuine);
    assert_eq!(sealed(KEY, &message).len(), genuine.len(), "the test knows how messages are sealed");

    // Without the nodes' key.
    intruder.says(b"").await;
    intruder.says(&[0; 31]).await;
    intruder.says(&[b'x'; 100]).await;
    let mut altered = genuine.clone();
    *altered.last_mut().unwrap() ^= 1;
    intruder.says(&altered).await;
    let another = "another-key-than-the-nodes-of-this-cluster";
    intruder.says(&sealed(another, &about(&message, &agent, &portal.raw))).await;
    let (tenant, place) =
        (&first.tenant, json!({ "node": message["to"], "session": message["body"]["Deliver"]["session"] }));
    for notice in [json!({ "Revoked": [tenant, agent.agent] }), json!({ "Displaced": place })] {
        let mut forged = message.clone();
        forged["body"] = json!({ "Notice": notice });
        intruder.says(&sealed(another, &forged)).await;
    }
    // What was really said.
    for _ in 0..3 {
        intruder.says(&genuine).await;
    }
    // With the nodes' key, taken from a node: what no portal has signed for this agent is not handed on.
    let stranger = RawPortal { key: SigningKey::generate(&System).unwrap(), ..portal.raw.clone() };
    intruder.says(&sealed(KEY, &about(&message, &agent, &stranger))).await;
    let other = RawAgent::enrolled(&cluster.nodes[0], &portal).await;
    let mut misdirected = about(&message, &other, &portal.raw);
    intruder.says(&sealed(KEY, &misdirected)).await;
    misdirected["body"]["Deliver"]["entry"]["agent"] = json!(other.agent);
    misdirected["body"]["Deliver"]["entry"]["key"]["tenant"] = json!("fabrikam");
    intruder.says(&sealed(KEY, &misdirected)).await;
    let mut old = about(&message, &agent, &portal.raw);
    old["at"] = json!(now().0 - 3600);
    intruder.says(&sealed(KEY, &old)).await;
    let mut elsewhere = about(&message, &agent, &portal.raw);
    elsewhere["to"] = message["from"].clone();
    intruder.says(&sealed(KEY, &elsewhere)).await;

    // Messages are taken in order: the next command that the agent gets is the next one that was submitted.
    let (next, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let (answered, got) = tokio::join!(portal.raw.submit(&jws, 30), conclude(&agent, &mut session));
    assert_eq!((answered.status, got), (200, next.jti));
    // After its end: if it is asked again at all, its agent has it in its journal.
    session.send(agent.outcome_frame(&first, Code::PasswordReset)).await;
    stored(&mut session).await;
    intruder.says(&genuine).await;
    let (next, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), JANE, NEW);
    let answering = async {
        loop {
            let got = conclude(&agent, &mut session).await;
            assert!(got == next.jti || got == first.jti);
            if got == next.jti {
                return;
            }
        }
    };
    let (answered, ()) = tokio::join!(portal.raw.submit(&jws, 30), answering);
    assert_eq!(answered.status, 200);
    assert_eq!(portal.raw.concluded(first.jti).await.command, first.jti);
    let log = cluster.nodes[1].log();
    for refusal in ["malformed", "signed with another key", "too old"] {
        assert!(log.contains(refusal), "{refusal}");
    }
}
