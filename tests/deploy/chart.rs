//! The chart, rendered by helm for several sets of values: what Kubernetes' schemas say, and rules of our own.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use writeback_relay::relay::config::{Config, Store};

use super::promql::assert_exported;
use super::{list, objects, project, template, text};

/// What others make, and values may name.
const OUTSIDE: [&str; 10] = [
    "Secret relay-tls",
    "Secret relay-redis",
    "Secret relay-redis-client",
    "Secret relay-admin",
    "Secret registry",
    "Secret proxy",
    "ConfigMap redis-ca",
    "ConfigMap otlp-ca",
    "ConfigMap id-ca",
    "PriorityClass identity",
];

/// Each set of values, and what it is rendered to.
fn rendered() -> &'static [(String, Vec<Value>)] {
    static ONCE: OnceLock<Vec<(String, Vec<Value>)>> = OnceLock::new();
    ONCE.get_or_init(render_all)
}

fn render_all() -> Vec<(String, Vec<Value>)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(project("tests/deploy/values")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    let render = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let yaml = template(&file, &[]).unwrap_or_else(|said| panic!("{name}: {said}"));
        (name.clone(), objects(&yaml, &["--check"]).unwrap_or_else(|wrong| panic!("{name}: {wrong}")))
    };
    files.into_iter().map(render).collect()
}

fn kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

pub(super) fn one<'a>(objects: &'a [Value], wanted: &'a str) -> &'a Value {
    let found: Vec<_> = kind(objects, wanted).collect();
    assert_eq!(found.len(), 1, "{wanted}");
    found[0]
}

/// The pods, of whatever makes them.
fn pods(objects: &[Value]) -> Vec<&Value> {
    let pods = objects.iter().filter_map(|object| match text(&object["kind"]) {
        "Pod" => Some(object),
        "Deployment" => Some(&object["spec"]["template"]),
        "StatefulSet" | "DaemonSet" | "Job" | "CronJob" => panic!("a kind that this test does not know: {object}"),
        _ => None,
    });
    pods.collect()
}

fn set(name: &str) -> &'static [Value] {
    &rendered().iter().find(|(set, _)| set == name).unwrap().1
}

#[test]
fn every_object_is_one_that_kubernetes_knows_and_its_schema_allows() {
    let mut kinds = BTreeSet::new();
    for (_, objects) in rendered() {
        kinds.extend(objects.iter().map(|object| text(&object["kind"]).to_owned()));
    }
    for wanted in [
        "Certificate",
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Ingress",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Pod",
        "PodDisruptionBudget",
        "PrometheusRule",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
        "TCPRoute",
        "TLSRoute",
    ] {
        assert!(kinds.contains(wanted), "no set of values makes a {wanted}");
    }
}

/// What the check above stands on.
#[test]
fn unknown_kinds_and_fields_and_wrong_types_are_found() {
    for (yaml, said) in [
        ("{apiVersion: v1, kind: Relay, metadata: {name: a}}", "unknown kind"),
        ("{apiVersion: apps/v1beta1, kind: Deployment, metadata: {name: a}}", "unknown kind"),
        ("{apiVersion: monitoring.coreos.com/v2, kind: ServiceMonitor, metadata: {name: a}}", "unknown kind"),
        ("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {port: 1}}", "port"),
        ("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: many}]}}", "many"),
        (
            "{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: a}, \
             spec: {selector: {}, endpoints: [{prt: ops}]}}",
            "prt",
        ),
        ("{apiVersion: v1, kind: Service, kind: Service, metadata: {name: a}}", "twice"),
    ] {
        let wrong = objects(yaml, &["--check"]).unwrap_err();
        assert!(wrong.contains(said), "{yaml}: {wrong}");
    }
}

#[test]
fn every_pod_is_restricted_and_every_container_limited() {
    for (set, objects) in rendered() {
        let pods = pods(objects);
        assert!(!pods.is_empty());
        for pod in pods {
            let (spec, name) =
                (&pod["spec"], format!("{set}: {}", pod["metadata"]["labels"]["app.kubernetes.io/component"]));
            let security = &spec["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{name}");
            // OpenShift chooses them itself, and refuses whoever chooses.
            for id in ["runAsUser", "runAsGroup", "fsGroup"] {
                assert_eq!(security[id].as_u64(), (set != "openshift").then_some(65532), "{name}: {id}");
            }
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
            for outside in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(spec[outside].is_null(), "{name}");
            }
            for volume in list(&spec["volumes"]) {
                assert!(volume["hostPath"].is_null(), "{name}: {volume}");
            }
            for container in list(&spec["initContainers"]).iter().chain(list(&spec["containers"])) {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
                assert!(security["capabilities"]["add"].is_null() && security["privileged"].is_null(), "{name}");
                for (bound, resource) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
                    assert!(!container["resources"][bound][resource].is_null(), "{name}: {bound}.{resource}");
                }
                assert!(container["resources"]["limits"]["cpu"].is_null(), "{name} is held back when many agents come");
            }
        }
    }
}

#[test]
fn every_port_is_named_and_meant_by_its_name() {
    for (set, objects) in rendered() {
        let ports: BTreeSet<&str> = pods(objects)
            .into_iter()
            .flat_map(|pod| list(&pod["spec"]["containers"]))
            .flat_map(|container| list(&container["ports"]))
            .map(|port| text(&port["name"]))
            .collect();
        assert_eq!(ports, BTreeSet::from(["public", "ops"]), "{set}");
        for service in kind(objects, "Service") {
            for port in list(&service["spec"]["ports"]) {
                assert_eq!(port["name"], port["targetPort"], "{set}");
                assert!(ports.contains(text(&port["targetPort"])), "{set}: {port}");
            }
        }
        for pod in pods(objects) {
            for container in list(&pod["spec"]["containers"]) {
                for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                    let port = &container[probe]["httpGet"]["port"];
                    assert!(port.is_null() || port == "ops", "{set}: {probe}");
                }
            }
        }
        for policy in kind(objects, "NetworkPolicy") {
            for rule in list(&policy["spec"]["ingress"]) {
                for port in list(&rule["ports"]) {
                    assert!(ports.contains(text(&port["port"])), "{set}: {port}");
                }
            }
        }
    }
}

fn is_part(wanted: &Value, labels: &Value) -> bool {
    let wanted: &Map<String, Value> = wanted.as_object().unwrap();
    !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value)
}

/// Kind and name of everything that an object names.
fn references(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut name = |kind: &str, value: &Value| {
        if let Some(value) = value.as_str() {
            found.push(format!("{kind} {value}"));
        }
    };
    let spec = &object["spec"];
    for pod in pods(std::slice::from_ref(object)) {
        let spec = &pod["spec"];
        name("ServiceAccount", &spec["serviceAccountName"]);
        name("PriorityClass", &spec["priorityClassName"]);
        for secret in list(&spec["imagePullSecrets"]) {
            name("Secret", &secret["name"]);
        }
        let volumes: BTreeSet<&str> = list(&spec["volumes"]).iter().map(|volume| text(&volume["name"])).collect();
        for volume in list(&spec["volumes"]) {
            name("Secret", &volume["secret"]["secretName"]);
            name("ConfigMap", &volume["configMap"]["name"]);
            name("PersistentVolumeClaim", &volume["persistentVolumeClaim"]["claimName"]);
        }
        let mut mounted = BTreeSet::new();
        for container in list(&spec["containers"]) {
            mounted.extend(list(&container["volumeMounts"]).iter().map(|mount| text(&mount["name"])));
            for variable in list(&container["env"]) {
                name("Secret", &variable["valueFrom"]["secretKeyRef"]["name"]);
                name("ConfigMap", &variable["valueFrom"]["configMapKeyRef"]["name"]);
            }
            for variables in list(&container["envFrom"]) {
                name("Secret", &variables["secretRef"]["name"]);
                name("ConfigMap", &variables["configMapRef"]["name"]);
            }
        }
        assert_eq!(mounted, volumes, "what is mounted, and the volumes");
    }
    name("Deployment", &spec["scaleTargetRef"]["name"]);
    for rule in list(&spec["rules"]) {
        for backend in list(&rule["backendRefs"]) {
            name("Service", &backend["name"]);
        }
        for path in list(&rule["http"]["paths"]) {
            name("Service", &path["backend"]["service"]["name"]);
        }
    }
    for tls in list(&spec["tls"]) {
        name("Secret", &tls["secretName"]);
    }
    found
}

#[test]
fn everything_that_is_named_or_selected_exists() {
    for (set, objects) in rendered() {
        let mut known: BTreeSet<String> = OUTSIDE.into_iter().map(str::to_owned).collect();
        for object in objects {
            let name = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
            assert!(known.insert(name.clone()), "{set}: {name} stands twice");
        }
        let issued = kind(objects, "Certificate").map(|made| format!("Secret {}", text(&made["spec"]["secretName"])));
        known.extend(issued);
        for object in objects {
            for named in references(object) {
                assert!(known.contains(&named), "{set}: {} names {named}, which nothing makes", object["kind"]);
            }
        }
        let pods: Vec<&Value> = pods(objects).into_iter().map(|pod| &pod["metadata"]["labels"]).collect();
        let services: Vec<&Value> = kind(objects, "Service").map(|service| &service["metadata"]["labels"]).collect();
        for object in objects {
            let (spec, selected) = (
                &object["spec"],
                match text(&object["kind"]) {
                    "ServiceMonitor" => &services,
                    _ => &pods,
                },
            );
            let selectors = [&spec["selector"]["matchLabels"], &spec["podSelector"]["matchLabels"], &spec["selector"]];
            for selector in selectors.into_iter().filter(|s| s.is_object() && s["matchLabels"].is_null()) {
                assert_eq!(selected.iter().filter(|labels| is_part(selector, labels)).count(), 1, "{set}: {object}");
            }
        }
        for monitor in kind(objects, "ServiceMonitor") {
            assert_eq!(list(&monitor["spec"]["endpoints"])[0]["port"], "ops");
        }
    }
}

/// The text of `relay.toml`, and what the relay makes of it.
fn configuration(objects: &[Value]) -> Config {
    let text = kind(objects, "ConfigMap").find_map(|map| map["data"]["relay.toml"].as_str()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let config = Config::read(file.path()).unwrap_or_else(|error| panic!("{error} in {text}"));
    if let Some(redis) = &config.redis {
        redis.check().unwrap_or_else(|error| panic!("{error} in {text}"));
    }
    config
}

#[test]
fn the_relay_takes_the_configuration_and_a_drain_fits_into_the_grace_period() {
    for (set, objects) in rendered() {
        let (config, deployment) = (configuration(objects), one(objects, "Deployment"));
        let spec = &deployment["spec"]["template"]["spec"];
        assert_eq!(config.drain.cut_off(), None, "{set}");
        let pre_stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
        let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert_eq!(config.drain.termination_grace_period_seconds, Some(grace - pre_stop), "{set}");
        assert_eq!(grace, pre_stop + config.drain.timeout_seconds + 5, "{set}");
        assert_eq!(config.drain.delay_seconds, pre_stop, "{set}: writeback-relay drain has no preStop");
        assert!(!config.listen.ip().is_loopback() && !config.ops_listen.ip().is_loopback(), "{set}: probes come in");
        // Every file that it names is under a folder or file that is mounted.
        let mounts: Vec<&str> =
            list(&spec["containers"][0]["volumeMounts"]).iter().map(|m| text(&m["mountPath"])).collect();
        let (tls, otlp_ca) = (config.tls.unwrap(), config.telemetry.otlp_ca_file);
        let redis = config.redis.iter().flat_map(|redis| {
            [
                Some(&redis.cluster_key_file),
                redis.password_file.as_ref(),
                redis.sentinel_password_file.as_ref(),
                redis.ca_file.as_ref(),
                redis.cert_file.as_ref(),
                redis.key_file.as_ref(),
            ]
        });
        let oidc_ca = config.admin.oidc.as_ref().and_then(|oidc| oidc.ca_file.as_ref());
        let given = redis.flatten().chain(&otlp_ca).chain(oidc_ca);
        for file in given.chain([&tls.cert_file, &tls.key_file, &config.data_dir]) {
            assert!(mounts.iter().any(|mount| file.starts_with(mount)), "{set}: {}", file.display());
        }
    }
    let everything = configuration(set("everything"));
    assert_eq!((everything.session.heartbeat_seconds, everything.limits.tls_handshakes), (15, 128));
    let redis = everything.redis.unwrap();
    assert!(redis.urls.len() == 2 && redis.cert_file.is_some() && redis.key_file.is_some());
    assert!(everything.admin.static_token && configuration(set("redis")).admin.oidc.is_none());
    let admin = configuration(set("sentinel")).admin;
    let oidc = admin.oidc.unwrap();
    assert_eq!((admin.static_token, &*oidc.issuer), (false, "https://id.example.com:8443/"));
    assert_eq!(
        (&*oidc.audience, &*oidc.claim, &*oidc.value),
        ("writeback-relay", "/realm_access/roles", "relay-operators")
    );
}

#[test]
fn nodes_roll_without_one_missing_and_the_embedded_store_is_never_opened_twice() {
    for (set, objects) in rendered() {
        let (config, deployment) = (configuration(objects), one(objects, "Deployment"));
        let strategy = &deployment["spec"]["strategy"];
        if config.store == Store::Redis {
            assert_eq!(strategy["rollingUpdate"]["maxUnavailable"], 0, "{set}");
            let spread = list(&deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]);
            let expected = match set.as_str() {
                "platform" => &["kubernetes.io/hostname"][..],
                "openshift" => &[],
                _ => &["topology.kubernetes.io/zone", "kubernetes.io/hostname"],
            };
            let keys: Vec<&str> = spread.iter().map(|rule| text(&rule["topologyKey"])).collect();
            assert_eq!(keys, expected, "{set}");
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            assert!(spread.iter().all(|rule| is_part(&rule["labelSelector"]["matchLabels"], labels)), "{set}");
        } else {
            assert_eq!(strategy["type"], "Recreate", "{set}");
            assert_eq!(deployment["spec"]["replicas"], 1, "{set}");
        }
    }
}

#[test]
fn the_network_lets_in_and_out_only_what_is_meant() {
    let objects = set("everything");
    let spec = &one(objects, "NetworkPolicy")["spec"];
    assert_eq!(spec["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
    let ports = |rules: &Value| -> Vec<Vec<String>> {
        let port = |port: &Value| port["port"].to_string().trim_matches('"').to_owned();
        list(rules).iter().map(|rule| list(&rule["ports"]).iter().map(port).collect()).collect()
    };
    assert_eq!(ports(&spec["ingress"]), [["public"], ["ops"]].map(|rule| rule.map(str::to_owned).to_vec()));
    let from = list(&spec["ingress"][1]["from"]);
    assert_eq!(from[0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], "monitoring");
    assert_eq!(from[1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"], "test");
    assert_eq!(from.len(), 2);
    let egress = [&["53", "53"][..], &["6380"], &["4318"], &["8443", "443"]];
    assert_eq!(ports(&spec["egress"]), egress);
    assert!(list(&spec["egress"]).iter().all(|rule| !list(&rule["to"]).is_empty()));
    let sentinel = set("sentinel");
    let spec = &one(sentinel, "NetworkPolicy")["spec"];
    assert_eq!(ports(&spec["egress"])[1], ["26379", "6379"]);
    assert_eq!(ports(&spec["egress"])[2], ["8443"], "the issuer's");
    assert_eq!(list(&spec["egress"]).len(), 3, "no collector, no way to it");
    let redis = &one(set("redis"), "NetworkPolicy")["spec"];
    assert_eq!(list(&redis["egress"]).len(), 2, "no issuer, no way to it");
    let openshift = &one(set("openshift"), "NetworkPolicy")["spec"];
    assert_eq!(ports(&openshift["egress"])[0], ["5353", "5353"]);
    let platform = &one(set("platform"), "NetworkPolicy")["spec"];
    let resolvers = list(&platform["egress"][0]["to"]);
    assert!(resolvers.len() == 2 && resolvers[1]["ipBlock"]["cidr"] == "169.254.20.10/32", "NodeLocal DNSCache");
    assert_eq!((list(&platform["ingress"]).len(), list(&platform["egress"]).len()), (3, 3), "and one more of each");
}

#[test]
fn sessions_survive_an_ingress_and_a_stop_lets_load_balancers_know_first() {
    let ingress = set("embedded");
    let annotations = &one(ingress, "Ingress")["metadata"]["annotations"];
    for timeout in ["proxy-read-timeout", "proxy-send-timeout"] {
        let seconds: u64 = text(&annotations[format!("nginx.ingress.kubernetes.io/{timeout}")]).parse().unwrap();
        assert!(seconds > 60, "a session may be silent for longer than {seconds} s");
    }
    let objects = set("redis");
    let container = &one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    // Interval and threshold of the health checks: AWS Load Balancer Controller (NLB), GKE, Azure, as they are by default.
    let slowest = [(10, 3), (8, 3), (5, 2)].map(|(interval, failures)| interval * failures).into_iter().max();
    let waits = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    assert!(waits >= slowest.map(|slowest| slowest + 5), "a load balancer still sends connections after {waits:?} s");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
}

#[test]
fn a_pod_is_ready_if_its_own_node_says_so_by_a_command_whose_reason_kubelet_shows() {
    for (address, url) in [
        ("0.0.0.0", "http://127.0.0.1:9443"),
        ("::", "http://[::1]:9443"),
        ("10.0.0.1", "http://10.0.0.1:9443"),
        ("fd00::1", "http://[fd00::1]:9443"),
    ] {
        let yaml =
            template(&project("tests/deploy/values/redis.yaml"), &[&format!("listenAddress={address}")]).unwrap();
        let objects = objects(&yaml, &["--check"]).unwrap();
        let probe = &one(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["readinessProbe"];
        let command = ["/usr/local/bin/writeback-relay", "ready", "--ops-url", url];
        assert_eq!(probe["exec"]["command"], serde_json::json!(command), "{address}");
        // The command says itself that there was no answer, within two seconds.
        assert!(probe["timeoutSeconds"].as_u64().unwrap() > 2);
    }
}

#[tokio::test]
async fn nodes_are_added_by_a_metric_that_they_have() {
    let autoscaler = one(set("everything"), "HorizontalPodAutoscaler");
    let names: Vec<&str> = list(&autoscaler["spec"]["metrics"])
        .iter()
        .filter_map(|metric| metric["pods"]["metric"]["name"].as_str())
        .collect();
    assert_eq!(names.len(), 1);
    assert_exported("the autoscaler", names[0]).await;
}

#[test]
fn alerts_and_dashboards_come_with_the_chart() {
    let rule = one(set("everything"), "PrometheusRule");
    let first = list(&rule["spec"]["groups"][0]["rules"]).iter().find(|rule| rule["alert"].is_string()).unwrap();
    let runbook = text(&first["annotations"]["runbook_url"]);
    assert_eq!(runbook, "https://runbooks.example.com/writeback-relay#relayaway");
    let dashboards =
        kind(set("everything"), "ConfigMap").filter(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1");
    assert_eq!(dashboards.count(), 3);
}
