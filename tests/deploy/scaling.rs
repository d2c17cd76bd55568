//! How many nodes an upgrade leaves: whatever an autoscaler and `kubectl scale` have done before, and whichever way helm
//! applies the manifest. What the API server makes of it is written down here after Kubernetes' documentation
//! ("Server-Side Apply", "Declarative Management ... How apply calculates differences"): there is no cluster to ask.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::api_server::{self, ApiServer, of_the_release};
use super::chart::one;
use super::{installed, objects, project};

/// How helm hands a manifest over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Helm {
    /// helm 3, and helm 4 with releases that helm 3 has made: a three-way merge.
    Client,
    /// helm 4: server-side apply.
    Server,
}

/// The Deployment as the API server has it.
#[derive(Debug)]
struct Deployed {
    replicas: i64,
    annotations: Value,
    /// Whether the last manifest had a number.
    in_manifest: bool,
    /// Who has set the number.
    owners: BTreeSet<&'static str>,
}

impl Deployed {
    fn object(&self, helm: Helm) -> Value {
        let set = json!({"f:replicas": {}});
        let by_others = self.owners.iter().filter(|owner| **owner != "helm").map(|owner| {
            json!({"manager": owner, "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": set}})
        });
        let mut managed: Vec<Value> = by_others.collect();
        let mut own = Map::from_iter([("f:template".to_owned(), json!({}))]);
        if self.owners.contains("helm") {
            own.insert("f:replicas".to_owned(), json!({}));
        }
        let operation = if helm == Helm::Server { "Apply" } else { "Update" };
        let annotations = self.annotations.as_object().cloned().unwrap_or_default();
        let mut metadata = of_the_release("contoso-writeback-relay", annotations);
        managed.push(json!({"manager": "helm", "operation": operation, "fieldsV1": {"f:spec": own}}));
        metadata["managedFields"] = json!(managed);
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": self.replicas}, "metadata": metadata,
        })
    }

    /// The scale subresource: whoever changes the number owns it alone.
    fn scale(&mut self, by: &'static str, to: i64) {
        if self.replicas != to {
            (self.replicas, self.owners) = (to, BTreeSet::from([by]));
        }
    }

    fn apply(&mut self, helm: Helm, manifest: &Value) -> Result<(), String> {
        let wanted = manifest["spec"]["replicas"].as_i64();
        match (helm, wanted) {
            (Helm::Client, Some(wanted)) => self.scale("helm", wanted),
            // What is dropped is set to null, whoever owns it, and Kubernetes makes 1 of that.
            (Helm::Client, None) if self.in_manifest => self.scale("helm", 1),
            (Helm::Client, None) => {}
            (Helm::Server, Some(wanted)) => {
                if wanted != self.replicas && self.owners.iter().any(|owner| *owner != "helm") {
                    return Err(format!("conflict with {:?}: .spec.replicas", self.owners));
                }
                self.replicas = wanted;
                self.owners.insert("helm");
            }
            (Helm::Server, None) => {
                if self.owners.remove("helm") && self.owners.is_empty() {
                    self.replicas = 1;
                }
            }
        }
        (self.in_manifest, self.annotations) = (wanted.is_some(), manifest["metadata"]["annotations"].clone());
        Ok(())
    }
}

/// What the chart makes of these values on this cluster.
async fn manifest(api: &ApiServer, set: &str) -> Value {
    let (server, set) = (format!("http://{}", api.address), set.to_owned());
    let rendering = tokio::task::spawn_blocking(move || {
        let home = tempfile::tempdir().unwrap();
        let mut helm = std::process::Command::new(installed("helm"));
        helm.env("HOME", home.path()).args(["template", "contoso", "--namespace", "relay", "--dry-run=server"]);
        helm.args(["--disable-openapi-validation", "--kube-apiserver", &server]).arg(project("helm"));
        helm.arg("--values").arg(project("tests/deploy/values/redis.yaml")).args(["--set", &set]);
        let output = helm.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    });
    one(&objects(&rendering.await.unwrap(), &[]).unwrap(), "Deployment").clone()
}

/// One thing that happens to a release.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// `helm upgrade` with these values, and how many nodes there are to be then, if not as many as before.
    Upgrade(&'static str, Option<i64>),
    /// Somebody scales.
    Scale(&'static str, i64),
}
use Step::{Scale, Upgrade};

const OFF: &str = "autoscaling.enabled=false";
const ON: &str = "autoscaling.enabled=true";
const AUTOSCALER: &str = "kube-controller-manager";

/// Begins with an installation, and goes through these steps.
async fn history(helm: Helm, install: &str, steps: &[Step]) {
    let api = ApiServer::start().await;
    let first = manifest(&api, install).await;
    let number = first["spec"]["replicas"].as_i64();
    let mut deployed = Deployed {
        replicas: number.unwrap_or(1),
        annotations: first["metadata"]["annotations"].clone(),
        in_manifest: number.is_some(),
        owners: number.iter().map(|_| "helm").collect(),
    };
    for step in steps {
        match *step {
            Scale(by, to) => deployed.scale(by, to),
            Upgrade(set, expected) => {
                let expected = expected.unwrap_or(deployed.replicas);
                api.cluster.lock().deployment = Some(deployed.object(helm));
                let manifest = manifest(&api, set).await;
                let applied = deployed.apply(helm, &manifest);
                assert_eq!(applied, Ok(()), "{helm:?} {install} {steps:?}: {step:?}");
                assert_eq!(deployed.replicas, expected, "{helm:?} {install} {steps:?}: {step:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_upgrade_takes_away_nodes_that_somebody_else_has_added_or_meets_a_conflict() {
    for helm in [Helm::Client, Helm::Server] {
        // An autoscaler comes, works, and goes again.
        let comes = [
            Upgrade(ON, None),
            Scale(AUTOSCALER, 5),
            Upgrade(ON, None),
            Scale(AUTOSCALER, 8),
            Upgrade(ON, None),
            Upgrade(OFF, None),
            Upgrade(OFF, None),
        ];
        history(helm, OFF, &comes).await;
        // It never had anything to do.
        history(helm, OFF, &[Upgrade(ON, None), Upgrade(ON, None), Upgrade(OFF, None)]).await;
        // It was there from the beginning.
        let always =
            [Scale(AUTOSCALER, 3), Upgrade(ON, None), Scale(AUTOSCALER, 6), Upgrade(ON, None), Upgrade(OFF, None)];
        history(helm, ON, &always).await;
        // By hand, up and down to nothing, and an autoscaler after that.
        history(helm, OFF, &[Scale("kubectl", 6), Upgrade(OFF, None), Upgrade(ON, None), Upgrade(OFF, None)]).await;
        history(helm, OFF, &[Scale("kubectl", 0), Upgrade(OFF, None), Scale("kubectl", 3), Upgrade(OFF, None)]).await;
        // By the values.
        history(helm, OFF, &[Upgrade("replicaCount=5", Some(5)), Upgrade("replicaCount=2", Some(2))]).await;
        let agreed = [
            Scale("kubectl", 5),
            Upgrade("replicaCount=5", Some(5)),
            Scale("kubectl", 4),
            Upgrade("replicaCount=5", None),
        ];
        history(helm, OFF, &agreed).await;
    }
    // Another number than the one that somebody has set: helm 3 sets it. helm 4 says whose it is, and --force-conflicts is for that.
    history(Helm::Client, OFF, &[Scale("kubectl", 6), Upgrade("replicaCount=4", Some(4))]).await;
}

#[tokio::test]
async fn a_release_of_an_older_chart_keeps_its_nodes_too() {
    let api = ApiServer::start().await;
    for helm in [Helm::Client, Helm::Server] {
        for (autoscaler, in_manifest, owner, set) in [
            (false, true, "helm", ON),
            (true, false, AUTOSCALER, ON),
            (true, false, AUTOSCALER, OFF),
            (false, true, "kubectl", OFF),
        ] {
            let owners = BTreeSet::from([owner]);
            let mut deployed = Deployed { replicas: 7, annotations: Value::Null, in_manifest, owners };
            *api.cluster.lock() = api_server::Cluster { deployment: Some(deployed.object(helm)), autoscaler };
            let applied = deployed.apply(helm, &manifest(&api, set).await);
            assert_eq!((applied, deployed.replicas), (Ok(()), 7), "{helm:?} {autoscaler} {owner} {set}");
        }
    }
}

/// What those who render without a cluster (Argo CD) get: no number that would fight with the autoscaler.
#[tokio::test]
async fn without_a_cluster_to_look_at_the_number_is_that_of_the_values_or_the_autoscalers() {
    let api = ApiServer::start().await;
    assert_eq!(manifest(&api, OFF).await["spec"]["replicas"], 3);
    assert_eq!(manifest(&api, "replicaCount=4").await["spec"]["replicas"], 4);
    assert!(manifest(&api, ON).await["spec"]["replicas"].is_null());
}
