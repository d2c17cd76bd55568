//! A pod of the chart as `podman run` takes it, or the harness that does as kubelet does: the same user, mounts, modes and
//! arguments that Kubernetes would give it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{list, text};
use crate::support::kubelet::{Container, Handler, Mount, Probe};

/// What secrets hold, by secret and key.
pub(super) type Files = BTreeMap<(String, String), String>;

/// What the secrets hold that the test's values name.
pub(super) fn secrets() -> Files {
    let made = rcgen::generate_simple_self_signed(["relay.example.com".to_owned()]).unwrap();
    let file = |secret: &str, key: &str, text: &str| ((secret.to_owned(), key.to_owned()), text.to_owned());
    Files::from([
        file("relay-tls", "tls.crt", &made.cert.pem()),
        file("relay-tls", "tls.key", &made.signing_key.serialize_pem()),
        file("relay-redis", "cluster-key", "a key that all nodes of the test share"),
        file("relay-admin", "token", "a token that the operator of the test has"),
    ])
}

/// The only container of a deployment's pod.
pub(super) struct Pod {
    /// For `podman run`.
    pub(super) options: Vec<String>,
    /// For the program.
    pub(super) arguments: Vec<String>,
    /// In seconds.
    pub(super) grace_period: u64,
    /// Its volumes, by name.
    pub(super) volumes: BTreeMap<String, PathBuf>,
    mounts: Vec<Mount>,
    security: Value,
    container: Value,
}

impl Pod {
    /// Lays out its volumes in `folder`.
    pub(super) fn new(deployment: &Value, objects: &[Value], secrets: &Files, folder: &Path) -> Self {
        let spec = &deployment["spec"]["template"]["spec"];
        let container = spec["containers"][0].clone();
        let (security, own) = (&spec["securityContext"], &container["securityContext"]);
        let group = security["fsGroup"].as_u64().unwrap();
        // Otherwise every file of a volume is opened to the group at each start.
        assert_eq!(security["fsGroupChangePolicy"], "OnRootMismatch");
        let mut options = vec![format!("--user={}:{}", security["runAsUser"], security["runAsGroup"])];
        assert_eq!(own["readOnlyRootFilesystem"], true);
        options.extend(["--read-only".to_owned(), "--read-only-tmpfs=false".to_owned()]);
        assert_eq!(own["allowPrivilegeEscalation"], false);
        options.push("--security-opt=no-new-privileges".to_owned());
        options.extend(list(&own["capabilities"]["drop"]).iter().map(|name| format!("--cap-drop={}", text(name))));
        for variable in list(&container["env"]) {
            options.push(format!("--env={}={}", text(&variable["name"]), text(&variable["value"])));
        }
        let mut volumes = BTreeMap::new();
        for volume in list(&spec["volumes"]) {
            let name = text(&volume["name"]);
            let at = folder.join(name);
            lay_out(volume, objects, secrets, &at);
            give_to(group, &at);
            volumes.insert(name.to_owned(), at);
        }
        // A file inside another mount comes behind it.
        let mut mounts: Vec<&Value> = list(&container["volumeMounts"]).iter().collect();
        mounts.sort_by_key(|mount| text(&mount["mountPath"]).len());
        let mut mounted = Vec::new();
        for mount in mounts {
            let volume = &volumes[text(&mount["name"])];
            let from = mount["subPath"].as_str().map_or_else(|| volume.clone(), |path| volume.join(path));
            let (at, read_only) = (text(&mount["mountPath"]), mount["readOnly"] == true);
            let mode = if read_only { "ro" } else { "rw" };
            options.push(format!("--volume={}:{at}:{mode}", from.display()));
            mounted.push(Mount { from, at: at.into(), read_only });
        }
        let arguments = list(&container["args"]).iter().map(|argument| text(argument).to_owned()).collect();
        let grace_period = spec["terminationGracePeriodSeconds"].as_u64().unwrap();
        let (security, mounts) = (security.clone(), mounted);
        Self { options, arguments, grace_period, volumes, mounts, security, container }
    }

    /// Its container, with this program of the host for its image.
    pub(super) fn container(&self, program: &Path) -> Container {
        let id = |name: &str| u32::try_from(self.security[name].as_u64().unwrap()).unwrap();
        let variables = list(&self.container["env"]).iter();
        Container {
            user: id("runAsUser"),
            group: id("runAsGroup"),
            fs_group: id("fsGroup"),
            mounts: self.mounts.clone(),
            environment: variables.map(|one| (text(&one["name"]).to_owned(), text(&one["value"]).to_owned())).collect(),
            program: program.to_owned(),
            arguments: self.arguments.clone(),
        }
    }

    /// `Startup`, `Liveness` or `Readiness`, of a pod whose ports are at this address.
    pub(super) fn probe(&self, kind: &'static str, address: &str) -> Probe {
        let probe = &self.container[format!("{}Probe", kind.to_lowercase())];
        let number = |name: &str, default: u64| probe[name].as_u64().unwrap_or(default);
        let seconds = |name: &str, default: u64| Duration::from_secs(number(name, default));
        let times = |name: &str, default: u64| u32::try_from(number(name, default)).unwrap();
        let command = list(&probe["exec"]["command"]).iter().map(|word| text(word).to_owned()).collect();
        let handler = match &probe["httpGet"]["path"] {
            Value::String(path) => Handler::Http(format!("http://{address}:9443{path}")),
            _ => Handler::Exec(command),
        };
        Probe {
            kind,
            handler,
            period: seconds("periodSeconds", 10),
            timeout: seconds("timeoutSeconds", 1),
            success_threshold: times("successThreshold", 1),
            failure_threshold: times("failureThreshold", 3),
        }
    }
}

/// Writes what the volume holds.
fn lay_out(volume: &Value, objects: &[Value], secrets: &Files, at: &Path) {
    std::fs::create_dir(at).unwrap();
    let write = |file: PathBuf, text: &str, mode: u32| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    if let Some(secret) = volume["secret"]["secretName"].as_str() {
        let mode = u32::try_from(volume["secret"]["defaultMode"].as_u64().unwrap()).unwrap();
        let items = list(&volume["secret"]["items"]);
        let path = |key: &str| {
            let item = items.iter().find(|item| item["key"] == key);
            item.map_or_else(|| items.is_empty().then(|| key.to_owned()), |item| Some(text(&item["path"]).to_owned()))
        };
        for ((_, key), content) in secrets.iter().filter(|((name, _), _)| name == secret) {
            if let Some(path) = path(key) {
                write(at.join(path), content, mode);
            }
        }
    } else if let Some(map) = volume["configMap"]["name"].as_str() {
        let map = objects.iter().find(|o| o["kind"] == "ConfigMap" && o["metadata"]["name"] == map).unwrap();
        for (name, content) in map["data"].as_object().unwrap() {
            write(at.join(name), text(content), 0o644);
        }
    } else if volume["persistentVolumeClaim"].is_object() {
        // As ext4 is made.
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
    } else {
        assert!(volume["emptyDir"].is_object(), "{volume}");
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o2777)).unwrap();
    }
}

/// As Kubernetes gives a volume to `fsGroup`: root's, and the group may do what root may.
fn give_to(group: u64, at: &Path) {
    let arguments = ["-R", &format!("0:{group}"), &at.display().to_string()];
    let mut chown = Command::new("chown");
    if !rustix::process::geteuid().is_root() {
        chown = Command::new("sudo");
        chown.args(["-n", "chown"]);
    }
    assert!(chown.args(arguments).status().unwrap().success());
}
