//! Values of the chart: each wrong one is refused with one sentence that names it, and the README says what each means.

use std::process::Command;

use super::{project, template};

/// What helm says to the values of `redis.yaml` with these changes, in one line.
fn said(set: &[&str]) -> String {
    let said = template(&project("tests/deploy/values/redis.yaml"), set).unwrap_err();
    let line =
        said.lines().map(str::trim).filter(|line| !line.starts_with("level=INFO") && !line.contains("symbolic link"));
    line.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_wrong_value_gets_a_sentence_that_names_it() {
    for (set, named) in [
        (&["publicUrl="][..], "publicUrl = \"\": https://HOST"),
        (&["publicUrl=http://relay.example.com"], "publicUrl = \"http://relay.example.com\""),
        (&["publicUrl=https://relay.example.com/"], "publicUrl"),
        (&["publicUrl=https://relay.example.com:99999999"], "publicUrl"),
        (&["replicaCount=0"], "/replicaCount"),
        (&["replicaCount=three"], "/replicaCount"),
        (&["store=paper"], "/store"),
        (
            &["store=embedded,redis.urls=null"],
            "replicaCount = 3: the embedded store is one file that one node has open",
        ),
        (
            &["store=embedded,redis.urls=null,replicaCount=1,autoscaling.enabled=true"],
            "autoscaling.enabled = true: the embedded store",
        ),
        (&["store=embedded,replicaCount=1"], "redis.urls: it belongs to store"),
        (&["redis.urls=null"], "redis.urls is empty"),
        (&["redis.urls={redis://a:1,redis://b:1}"], "redis.urls: several servers"),
        (&["redis.urls={redis://user:password@a:1}"], "/redis/urls/0"),
        (&["redis.existingSecret="], "redis.existingSecret is empty"),
        (&["redis.topology=ring"], "/redis/topology"),
        (&["redis.masterName=relay"], "redis.masterName = \"relay\""),
        (&["redis.topology=sentinel"], "redis.masterName = \"\""),
        (&["redis.sentinelPasswordKey=password"], "redis.sentinelPasswordKey: it belongs"),
        (&["tls.existingSecret="], "tls.existingSecret is empty"),
        (
            &["tls.certManager.enabled=true,tls.certManager.issuerRef.name=a"],
            "tls.existingSecret: tls.certManager.enabled is true",
        ),
        (&["tls.existingSecret=,tls.certManager.enabled=true"], "tls.certManager.issuerRef.name is empty"),
        (&["tls.certManager.duration=forever"], "/tls/certManager/duration"),
        (&["admin.staticToken=false"], "admin.staticToken = false: nobody could operate"),
        (&["admin.oidc.issuer=https://id.example.com"], "admin.oidc.audience is empty"),
        (&["admin.oidc.value=relay-operators"], "admin.oidc.value: it needs admin.oidc.issuer"),
        (&["admin.oidc.issuer=http://id.example.com"], "/admin/oidc/issuer"),
        (
            &["admin.oidc.issuer=https://i,admin.oidc.audience=a,admin.oidc.claim=c,admin.oidc.value=v,\
               admin.staticToken=false,admin.existingSecret=relay-admin"],
            "admin.existingSecret: its token is not taken",
        ),
        (&["session.heartbeat_seconds=61"], "/session/heartbeat_seconds"),
        (&["limits.tls_handshakes=0"], "/limits/tls_handshakes"),
        (&["drain.timeoutSeconds=-1"], "/drain/timeoutSeconds"),
        (&["gateway.enabled=true"], "gateway.parentRefs is empty"),
        (&["gateway.kind=HTTPRoute"], "/gateway/kind"),
        (&["autoscaling.enabled=true,autoscaling.minReplicas=11"], "autoscaling.minReplicas = 11"),
        (
            &["autoscaling.enabled=true,autoscaling.sessionsPerNode=0,autoscaling.cpuPercent=0"],
            "autoscaling.sessionsPerNode",
        ),
        (&["image.digest=latest"], "/image/digest"),
        (&["service.type=Headless"], "/service/type"),
        (&["service.port=70000"], "/service/port"),
        (&["resources.limits=null"], "limits"),
        (&["topologySpread=Perhaps"], "/topologySpread"),
        (&["colour=blue"], "colour"),
        (&["redis.passwrdKey=a"], "passwrdKey"),
    ] {
        let said = said(set);
        assert!(said.contains(named), "{set:?}: {said}");
        assert!(said.matches("- at '").count() <= 1, "more than one sentence: {said}");
        assert!(!said.contains("panic"), "{said}");
    }
}

#[test]
fn the_readme_of_the_chart_is_what_the_comments_in_its_values_say() {
    let output = Command::new("python3").arg(project("helm/readme.py")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
