//! Operators by the tokens of an OpenID provider: a real one, and what somebody makes who is not it.

use crate::support::https_client;
use serde_json::{Value, json};
use writeback_relay::storage::PrivateFile;

use super::provider::{AUDIENCE, Provider};
use crate::support::relay::{Answered, Relay, TENANT, now};
use crate::support::{PATIENCE, eventually, own_address};

/// Asks the admin API something harmless.
async fn ask(relay: &Relay, token: &str) -> Answered {
    let http = https_client(None).unwrap();
    let request = http.get(format!("{}/admin/v1/tenants", relay.ops_url())).bearer_auth(token);
    let answer = request.timeout(PATIENCE).send().await.unwrap();
    Answered {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: answer.bytes().await.unwrap().to_vec(),
    }
}

/// The lines of the audit trail with this action.
fn audited(relay: &Relay, action: &str) -> Vec<Value> {
    let log = relay.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "audit" && line["action"] == action).collect()
}

async fn rejected(relay: &Relay, reason: &str) -> u32 {
    let series = format!("writeback_credentials_rejected_total{{kind=\"admin\",reason=\"{reason}\"}} ");
    let metrics = relay.metrics().await;
    metrics.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn an_issuers_operator_is_let_in_by_any_of_its_algorithms_and_each_change_says_who_made_it() {
    let provider = Provider::start().await;
    let relay = Relay::start_with(&provider.settings()).await;
    for (client, alg) in
        [("operator", "RS256"), ("operator", "PS256"), ("operator", "ES256"), ("operator", "EdDSA"), ("alone", "RS256")]
    {
        let answered = ask(&relay, &provider.token(client, AUDIENCE, alg, "").await).await;
        assert_eq!(answered.status, 200, "{client} {alg}: {}", answered.text());
    }
    let token = provider.operators().await;
    let cli = |variable: &'static str, value: &str, arguments: &[&str]| {
        let mut cli = crate::support::cli::Cli::new(env!("CARGO_BIN_EXE_writeback-relay"), &[]);
        cli.set("WRITEBACK_OPS_URL", &relay.ops_url());
        cli.set(variable, value);
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        async move { cli.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let said = cli("WRITEBACK_ADMIN_TOKEN", &token, &["tenant", "add", "fabrikam"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    let file = PrivateFile::new(relay.data_dir().join("mine"));
    file.replace(&format!("{token}\n")).unwrap();
    let file = file.path().display().to_string();
    let said = cli("WRITEBACK_ADMIN_TOKEN_FILE", &file, &["tenant", "add", "northwind"]).await;
    assert_eq!(said.status, 0, "{said:?}");

    let added = audited(&relay, "tenant_added");
    let who = |tenant: &str| added.iter().find(|line| line["tenant"] == tenant).unwrap()["span"].clone();
    for tenant in ["fabrikam", "northwind"] {
        assert_eq!(who(tenant), json!({"name": "operator", "sub": "operator", "iss": provider.issuer()}));
    }
    assert_eq!(who(TENANT), json!({"name": "operator", "credential": "static token"}));

    let visitor = provider.token("visitor", AUDIENCE, "RS256", "").await;
    let said = cli("WRITEBACK_ADMIN_TOKEN", &visitor, &["tenant", "add", "tailspin"]).await;
    assert!(said.status == 1 && said.err.contains("relay-operators") && said.err.contains("groups"), "{said:?}");
    assert_eq!(audited(&relay, "operator_refused").last().unwrap()["reason"], "no_operator");
    let log = relay.log();
    for token in [&token, &visitor] {
        assert!(!log.contains(token.as_str()) && !log.contains(token.rsplit('.').next().unwrap()));
    }
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_refused_with_the_reason_and_nothing_of_it_is_repeated() {
    let provider = Provider::start().await;
    let relay = Relay::start_with(&provider.settings()).await;
    let good = provider.operators().await;
    assert_eq!(ask(&relay, &good).await.status, 200);
    let (asked, now, issuer) = (provider.keys_asked_for().await, now().0, provider.issuer());

    let claims = |claims: Value| json!({ "claims": claims });
    let header = |header: Value| json!({ "header": header });
    let mut tokens = vec![
        ("audience", "\"writeback-relay\"", provider.token("operator", "other-service", "RS256", "").await),
        ("malformed", "base64url", "a.b!.c".to_owned()),
        ("malformed", "header", "YQ.YQ.YQ".to_owned()),
        ("invalid_token", "not the admin token", "x".repeat(43)),
        ("invalid_token", "not the admin token", good.replace('.', "")),
        ("no_operator", "\"relay-operators\"", provider.token("visitor", AUDIENCE, "ES256", "").await),
        ("no_operator", "\"groups\"", provider.token("stranger", AUDIENCE, "EdDSA", "").await),
    ];
    for (reason, said, change) in [
        ("audience", "\"writeback-relay\"", claims(json!({"aud": null}))),
        ("issuer", &*issuer, claims(json!({"iss": "https://id.example.com"}))),
        ("issuer", &*issuer, claims(json!({"iss": format!("{}/", provider.issuer())}))),
        ("issuer", &*issuer, claims(json!({"iss": null}))),
        ("expired", "exp", claims(json!({"exp": now - 60}))),
        ("claims", "exp", claims(json!({"exp": null}))),
        ("claims", "sub", claims(json!({"sub": null}))),
        ("not_yet", "nbf", claims(json!({"nbf": now + 120}))),
        ("typ", "at+jwt", header(json!({"typ": "writeback-portal-assertion+jwt"}))),
        ("typ", "at+jwt", header(json!({"typ": null}))),
        ("crit", "crit", header(json!({"crit": ["urn:example:must"], "urn:example:must": true}))),
        ("malformed", "kid", header(json!({"kid": null}))),
        // The key is the issuer's, and not for this algorithm.
        ("algorithm", "alg", header(json!({"alg": "PS256"}))),
        ("algorithm", "alg", header(json!({"alg": "RS512"}))),
        ("algorithm", "alg", json!({"header": {"alg": "none"}, "by": "nobody"})),
        ("algorithm", "alg", json!({"header": {"alg": "HS256"}, "by": "public key"})),
        ("algorithm", "alg", json!({"header": {"alg": "ES256"}, "by": "stranger"})),
        ("signature", "signature", json!({"by": "stranger"})),
        ("signature", "signature", json!({"by": "nobody"})),
    ] {
        tokens.push((reason, said, provider.forge(&good, change).await));
    }
    // Another's claims under a good signature.
    let other = provider.forge(&good, claims(json!({"sub": "somebody"}))).await;
    let [head, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let swapped = format!("{head}.{}.{signature}", other.split('.').nth(1).unwrap());
    tokens.push(("signature", "signature", swapped));

    for (reason, said, token) in &tokens {
        let before = rejected(&relay, reason).await;
        let answered = ask(&relay, token).await;
        let (status, code) =
            if *reason == "no_operator" { (403, "insufficient_scope") } else { (401, "invalid_token") };
        assert_eq!(answered.status, status, "{reason}: {token}: {}", answered.text());
        assert_eq!(answered.problem(), code, "{reason}");
        assert_eq!(answered.headers["www-authenticate"], format!("Bearer error=\"{code}\""));
        let detail = answered.json::<Value>()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(said), "{reason}: {detail}");
        for part in token.split('.').filter(|part| part.len() > 8) {
            assert!(!answered.text().contains(part), "{reason}: {detail}");
        }
        assert_eq!(rejected(&relay, reason).await, before + 1, "{reason}");
    }
    assert_eq!(provider.keys_asked_for().await, asked, "none of these is a reason to ask the issuer");
    assert_eq!(ask(&relay, &good).await.status, 200);

    let bare = https_client(None).unwrap().get(format!("{}/admin/v1/tenants", relay.ops_url())).send().await.unwrap();
    assert_eq!((bare.status().as_u16(), &bare.headers()["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
}

#[tokio::test]
async fn a_new_key_of_the_issuers_is_fetched_at_once_and_made_up_ones_have_it_asked_no_more() {
    let provider = Provider::start().await;
    let relay = Relay::start_with(&provider.settings()).await;
    let old = provider.operators().await;
    assert_eq!(ask(&relay, &old).await.status, 200);
    let asked = provider.keys_asked_for().await;
    provider.rotate().await;
    let (new, other) = (provider.operators().await, provider.token("operator", AUDIENCE, "ES256", "").await);
    // Two at a time: one asks, and both hear the answer.
    let (first, second) = tokio::join!(ask(&relay, &new), ask(&relay, &other));
    assert_eq!((first.status, second.status), (200, 200), "{} {}", first.text(), second.text());
    assert_eq!(provider.keys_asked_for().await, asked + 1);

    let made_up = provider.forge(&new, json!({"header": {"kid": "made up"}})).await;
    for token in [&old, &made_up, &made_up] {
        let answered = ask(&relay, token).await;
        assert_eq!((answered.status, answered.problem().as_str()), (401, "invalid_token"));
        assert!(answered.text().contains("it is asked again in "), "{}", answered.text());
    }
    assert_eq!(provider.keys_asked_for().await, asked + 1);
    assert_eq!(ask(&relay, &new).await.status, 200);
}

#[tokio::test]
async fn an_issuer_that_is_away_at_the_start_is_waited_for_and_one_that_goes_later_is_done_without() {
    let mut provider = Provider::start().await;
    let old = provider.operators().await;
    provider.kill();
    let relay = Relay::start_with(&provider.settings()).await;
    eventually("the relay has warned", async || relay.log().contains("the keys of the operators' issuer")).await;
    let answered = ask(&relay, &old).await;
    assert_eq!((answered.status, answered.problem().as_str()), (503, "issuer_unavailable"), "{}", answered.text());
    let seconds: u64 = answered.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=6).contains(&seconds), "{seconds}");
    assert!(answered.text().contains(&provider.issuer()) && answered.text().contains("reached"), "{}", answered.text());
    relay.admin().tenants().await.expect("the static token needs no issuer");

    provider.start_again().await;
    let token = provider.operators().await;
    eventually("the issuer's token is taken", async || ask(&relay, &token).await.status == 200).await;
    provider.kill();
    assert_eq!(ask(&relay, &token).await.status, 200, "its keys are known");
    // Whether a key is the issuer's nobody can tell now.
    let answered = ask(&relay, &old).await;
    assert_eq!((answered.status, answered.problem().as_str()), (503, "issuer_unavailable"), "{}", answered.text());
    assert_eq!(ask(&relay, &token).await.status, 200);
}

#[tokio::test]
async fn what_an_issuer_says_that_is_no_use_is_named() {
    let provider = Provider::start().await;
    let token = provider.operators().await;
    let (metadata, keys) = ("/.well-known/openid-configuration", "/jwks");
    let text = |value: Value| json!({ "text": value.to_string() });
    let jwks = format!("{}{keys}", provider.issuer());
    for (path, answer, said) in [
        (metadata, text(json!({"issuer": format!("{}/", provider.issuer()), "jwks_uri": jwks})), "another issuer"),
        (metadata, text(json!({"issuer": provider.issuer(), "jwks_uri": "http://id.example.com/k"})), "not https"),
        (metadata, text(json!({"issuer": provider.issuer()})), "jwks_uri are expected"),
        (metadata, json!({"text": "<html>"}), "no OpenID provider's metadata"),
        (metadata, json!({"status": 302, "headers": {"location": "https://id.example.com"}, "text": ""}), "302"),
        (metadata, json!({"spaces": 300_000}), "more than 262144 bytes"),
        (keys, text(json!({"keys": []})), "no use"),
        (keys, text(json!({"keys": [{"kty": "oct", "kid": "a", "k": "AAAA"}]})), "RS256"),
        (keys, json!({"status": 500, "text": ""}), "500"),
        (keys, json!({"silent": true}), "did not answer within 5 s"),
    ] {
        provider.instead(path, answer.clone()).await;
        let relay = Relay::start_with(&provider.settings()).await;
        let answered = ask(&relay, &token).await;
        assert_eq!((answered.status, answered.problem().as_str()), (503, "issuer_unavailable"), "{answer}");
        let detail = answered.json::<Value>()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(said) && detail.contains(path), "{answer}: {detail}");
        provider.instead(path, Value::Null).await;
    }
    // A CA that nobody has named.
    let settings = provider.settings();
    let relay = Relay::start_with(settings.split("ca_file").next().unwrap()).await;
    let answered = ask(&relay, &token).await;
    assert!(answered.status == 503 && answered.text().contains("certificate"), "{}", answered.text());
}

#[tokio::test]
async fn without_a_static_token_there_is_none_and_a_word_of_scope_makes_an_operator_too() {
    let provider = Provider::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("[admin]\nstatic_token = false\n{}", provider.settings());
    let relay = Relay::node(own_address(), folder.path().to_owned(), &settings).await;
    assert!(!relay.data_dir().join("admin.token").exists());
    assert_eq!(ask(&relay, &provider.operators().await).await.status, 200);
    let answered = ask(&relay, &"x".repeat(43)).await;
    assert_eq!(answered.problem(), "invalid_token");
    assert!(answered.text().contains(&provider.issuer()), "{}", answered.text());

    let relay = Relay::start_with(&provider.settings_with("scope", "relay:operate")).await;
    for (scope, status) in [("relay:read relay:operate", 200), ("relay:operate", 200), ("relay:read", 403), ("", 403)] {
        let token = provider.token("stranger", AUDIENCE, "EdDSA", scope).await;
        assert_eq!(ask(&relay, &token).await.status, status, "{scope}");
    }
}

#[tokio::test]
async fn a_ca_that_is_no_use_and_a_static_token_that_looks_like_a_jwt_are_named_at_the_start() {
    let (folder, address) = (tempfile::tempdir().unwrap(), own_address());
    let settings = |ca: &str| {
        format!(
            "[admin.oidc]\nissuer = \"http://127.0.0.1:1\"\naudience = \"a\"\nclaim = \"c\"\nvalue = \"v\"\n\
             ca_file = \"{ca}\"\n"
        )
    };
    let log = Relay::refusing_node(address, folder.path().join("a"), &settings("/nowhere/ca.pem")).await;
    assert!(log.contains("admin.oidc.ca_file: /nowhere/ca.pem"), "{log}");
    let data = folder.path().join("b");
    std::fs::create_dir(&data).unwrap();
    PrivateFile::new(data.join("admin.token")).replace(&format!("{0}.{0}.{0}", "x".repeat(20))).unwrap();
    let log = Relay::refusing_node(address, data, settings("x").split("ca_file").next().unwrap()).await;
    assert!(log.contains("admin.token") && log.contains("two dots"), "{log}");
}

#[test]
fn the_lock_file_of_the_provider_names_no_registry() {
    let lock = include_str!("package-lock.json");
    assert!(!lock.contains("\"resolved\""), "package-lock.json: write it with tests/operator/.npmrc in place");
}
