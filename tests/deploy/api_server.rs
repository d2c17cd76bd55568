//! As much of Kubernetes' API as helm's `lookup` asks for: which kinds there are, and one Deployment with its autoscaler.
//! There is no cluster where these tests run; helm and the chart are the real ones.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::{StatusCode, Uri};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

/// Group, version, kind and the name in paths of what the chart makes.
const KINDS: [(&str, &str, &str, &str); 9] = [
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("apps", "v1", "Deployment", "deployments"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
];

/// What is in the cluster.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) deployment: Option<Value>,
    pub(super) autoscaler: bool,
}

/// Serves it until it is dropped.
pub(super) struct ApiServer {
    pub(super) address: SocketAddr,
    pub(super) cluster: Arc<Mutex<Cluster>>,
    serving: JoinHandle<()>,
}

impl ApiServer {
    pub(super) async fn start() -> Self {
        let cluster = Arc::new(Mutex::new(Cluster::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::clone(&cluster);
        let router = Router::new().fallback(move |uri: Uri| {
            let answer = answer(uri.path(), &seen.lock());
            async move {
                let missing = json!({"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404});
                answer.map_or((StatusCode::NOT_FOUND, Json(missing)), |found| (StatusCode::OK, Json(found)))
            }
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, cluster, serving }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn answer(path: &str, cluster: &Cluster) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match *parts {
        ["version"] => Some(json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"})),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => {
            let groups: Vec<Value> = KINDS.iter().filter(|(group, ..)| !group.is_empty()).map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["api", version] => Some(kinds("", version)),
        ["apis", group, version] => Some(kinds(group, version)),
        ["apis", "apps", "v1", "namespaces", "relay", "deployments", "contoso-writeback-relay"] => {
            cluster.deployment.clone()
        }
        ["apis", "autoscaling", "v2", "namespaces", "relay", "horizontalpodautoscalers", name] => {
            cluster.autoscaler.then(|| {
                let metadata = of_the_release(name, Map::new());
                json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata})
            })
        }
        _ => None,
    }
}

/// What makes an object one of the release's.
pub(super) fn of_the_release(name: &str, mut annotations: Map<String, Value>) -> Value {
    for (name, value) in [("name", "contoso"), ("namespace", "relay")] {
        annotations.insert(format!("meta.helm.sh/release-{name}"), json!(value));
    }
    json!({"name": name, "labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": annotations})
}

fn group((name, version, ..): &(&str, &str, &str, &str)) -> Value {
    let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn kinds(group: &str, version: &str) -> Value {
    let of_group = KINDS.iter().filter(|(of, in_version, ..)| (*of, *in_version) == (group, version));
    let resources: Vec<Value> = of_group
        .map(|(_, _, kind, plural)| json!({"name": plural, "kind": kind, "namespaced": true, "verbs": ["get"]}))
        .collect();
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "groupVersion": name, "resources": resources})
}
