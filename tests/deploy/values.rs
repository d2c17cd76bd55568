//! Values of the chart: each wrong one is refused with one sentence that names it, and the README says what each means.

use std::process::Command;

use super::{project, read, template};

/// What helm says to the values of `redis.yaml` with these changes, in one line.
fn said(set: &[&str]) -> String {
    let said = template(&project("tests/deploy/values/redis.yaml"), set).unwrap_err();
    let line =
        said.lines().map(str::trim).filter(|line| !line.starts_with("level=INFO") && !line.contains("symbolic link"));
    line.collect::<Vec<_>>().join(" ")
}

/// A wrong value, set as `helm --set` has it, and what the sentence about it names. Each starts from `redis.yaml`.
const WRONG: &[(&[&str], &str)] = &[
    (&["publicUrl="], "publicUrl = \"\": https://HOST"),
    (&["publicUrl=http://relay.example.com"], "publicUrl = \"http://relay.example.com\""),
    (&["publicUrl=https://relay.example.com/"], "publicUrl = \"https://relay.example.com/\""),
    (&["publicUrl=https://relay.example.com:99999999"], "publicUrl = "),
    (&["publicUrl=https://relay.example.com:0"], "publicUrl = \"https://relay.example.com:0\""),
    (&["publicUrl=https://relay.example.com:65536"], "publicUrl = \"https://relay.example.com:65536\""),
    (&["publicUrl=https://relay..example.com"], "publicUrl = \"https://relay..example.com\""),
    (&["publicUrl=https://relay.example.com."], "publicUrl = \"https://relay.example.com.\""),
    (&["publicUrl=https://-relay.example.com"], "publicUrl = \"https://-relay.example.com\""),
    (&["publicUrl=https://relay-.example.com"], "publicUrl = \"https://relay-.example.com\""),
    (&["replicaCount=0"], "'/replicaCount'"),
    (&["replicaCount=three"], "'/replicaCount'"),
    (&["store=paper"], "'/store'"),
    (&["store=embedded,redis.urls=null"], "replicaCount = 3: the embedded store is one file that one node has open"),
    (
        &["store=embedded,redis.urls=null,replicaCount=1,autoscaling.enabled=true"],
        "autoscaling.enabled = true: the embedded store",
    ),
    (&["store=embedded,replicaCount=1"], "redis.urls: it belongs to store"),
    (&["redis.urls=null"], "redis.urls is empty"),
    (&["redis.urls={redis://a:1,redis://b:1}"], "redis.urls: several servers"),
    (&["redis.urls={redis://user:password@a:1}"], "'/redis/urls/0'"),
    (&["redis.urls={redis://a:65536}"], "'/redis/urls/0'"),
    (&["redis.urls={a:6379}"], "'/redis/urls/0'"),
    (&["redis.topology=ring"], "'/redis/topology'"),
    (&["redis.masterName=relay"], "redis.masterName = \"relay\""),
    (&["redis.topology=sentinel"], "redis.masterName = \"\""),
    (&["redis.username=5"], "'/redis/username'"),
    (&["redis.sentinelUsername=relay"], "redis.sentinelUsername: it belongs"),
    (&["redis.existingSecret="], "redis.existingSecret is empty"),
    (&["redis.existingSecret=Relay_Redis"], "'/redis/existingSecret'"),
    (&["redis.clusterKeyKey="], "'/redis/clusterKeyKey'"),
    (&["redis.passwordKey=pass/word"], "'/redis/passwordKey'"),
    (&["redis.sentinelPasswordKey=password"], "redis.sentinelPasswordKey: it belongs"),
    (&["redis.caConfigMap=Redis CA"], "'/redis/caConfigMap'"),
    (&["redis.clientCertSecret=Redis Client"], "'/redis/clientCertSecret'"),
    (&["redis.clientCertSecret=relay-redis-client"], "redis.clientCertSecret: it belongs to servers"),
    (&["redis.passwrdKey=a"], "passwrdKey"),
    (&["embedded.size=large"], "'/embedded/size'"),
    (&["embedded.size=0Gi"], "'/embedded/size'"),
    (&["embedded.storageClassName=5"], "'/embedded/storageClassName'"),
    (&["tls.existingSecret="], "tls.existingSecret is empty"),
    (
        &["tls.certManager.enabled=true,tls.certManager.issuerRef.name=a"],
        "tls.existingSecret: tls.certManager.enabled is true",
    ),
    (&["tls.certManager.enabled=perhaps"], "'/tls/certManager/enabled'"),
    (&["tls.existingSecret=,tls.certManager.enabled=true"], "tls.certManager.issuerRef.name is empty"),
    (&["tls.certManager.issuerRef.kind="], "'/tls/certManager/issuerRef/kind'"),
    (&["tls.certManager.issuerRef.group="], "'/tls/certManager/issuerRef/group'"),
    (&["tls.certManager.duration=forever"], "'/tls/certManager/duration'"),
    (&["tls.certManager.renewBefore=90d"], "'/tls/certManager/renewBefore'"),
    (&["tls.certManager.renewBefore=0h"], "'/tls/certManager/renewBefore'"),
    (
        &["tls.certManager.duration=48h,tls.certManager.renewBefore=2880m"],
        "tls.certManager.renewBefore = \"2880m\": it is not less than tls.certManager.duration = \"48h\"",
    ),
    (&["admin.existingSecret=Admin"], "'/admin/existingSecret'"),
    (&["admin.staticToken=perhaps"], "'/admin/staticToken'"),
    (&["admin.staticToken=false"], "admin.staticToken = false: nobody could operate"),
    (&["admin.oidc.issuer=http://id.example.com"], "'/admin/oidc/issuer'"),
    (&["admin.oidc.issuer=https://id.example.com"], "admin.oidc.audience is empty"),
    (&["admin.oidc.audience=5"], "'/admin/oidc/audience'"),
    (&["admin.oidc.claim=groups"], "admin.oidc.claim: it needs admin.oidc.issuer"),
    (&["admin.oidc.value=relay-operators"], "admin.oidc.value: it needs admin.oidc.issuer"),
    (&["admin.oidc.caConfigMap=Id CA"], "'/admin/oidc/caConfigMap'"),
    (
        &["admin.oidc.issuer=https://i,admin.oidc.audience=a,admin.oidc.claim=c,admin.oidc.value=v,\
           admin.staticToken=false,admin.existingSecret=relay-admin"],
        "admin.existingSecret: its token is not taken",
    ),
    (&["session.heartbeat_seconds=61"], "'/session/heartbeat_seconds'"),
    (&["session.hello_timeout_seconds=0"], "'/session/hello_timeout_seconds'"),
    (&["session.max_age_seconds=604801"], "'/session/max_age_seconds'"),
    (&["session.minimum_agent_version=two"], "'/session/minimum_agent_version'"),
    (&["session.heartbeat=17"], "'heartbeat'"),
    (&["limits.tls_handshakes=0"], "'/limits/tls_handshakes'"),
    (&["limits.session_openings=65537"], "'/limits/session_openings'"),
    (&["limits.tenant_commands_per_second=0"], "'/limits/tenant_commands_per_second'"),
    (&["limits.tenant_in_flight=many"], "'/limits/tenant_in_flight'"),
    (&["limits.tenant_sessions=0"], "'/limits/tenant_sessions'"),
    (&["limits.portal_requests=0"], "'/limits/portal_requests'"),
    (&["limits.requests=all"], "'/limits/requests'"),
    (&["limits.portal_connections=65537"], "'/limits/portal_connections'"),
    (&["limits.address_connections=0"], "'/limits/address_connections'"),
    (&["limits.tenant_stored_mib=1000001"], "'/limits/tenant_stored_mib'"),
    (&["limits.agent_forgotten_outcomes=none"], "'/limits/agent_forgotten_outcomes'"),
    (&["limits.session_frames_per_second=0"], "'/limits/session_frames_per_second'"),
    (&["limits.tenant_invitations=0"], "'/limits/tenant_invitations'"),
    (&["limits.tenant_agents=1000001"], "'/limits/tenant_agents'"),
    (&["limits.tenant_unapproved_agents=few"], "'/limits/tenant_unapproved_agents'"),
    (&["limits.address_handshakes_per_second=0.5"], "'/limits/address_handshakes_per_second'"),
    (&["limits.address_rejections_per_minute=-1"], "'/limits/address_rejections_per_minute'"),
    (&["limits.tenant_session=1"], "'tenant_session'"),
    (&["clientAddress.from=header"], "'/clientAddress/from'"),
    (&["clientAddress.trusted_proxies={10.0.0.0/8}"], "clientAddress.from is missing"),
    (&["clientAddress.from=proxy_protocol"], "clientAddress.trusted_proxies: the proxies' networks"),
    (
        &["clientAddress.from=connection,clientAddress.trusted_proxies={10.0.0.0/8}"],
        "clientAddress.trusted_proxies: the proxies' networks",
    ),
    (&["clientAddress.from=forwarded,clientAddress.trusted_proxies={10.0.0.1}"], "'/clientAddress/trusted_proxies/0'"),
    (
        &["clientAddress.from=forwarded,clientAddress.trusted_proxies={256.0.0.0/8}"],
        "clientAddress.trusted_proxies: \"256.0.0.0/8\" is no network",
    ),
    (&["telemetry.log_format=xml"], "'/telemetry/log_format'"),
    (&["telemetry.tenant_label=some"], "'/telemetry/tenant_label'"),
    (&["telemetry.otlp_endpoint=collector:4318"], "'/telemetry/otlp_endpoint'"),
    (&["telemetry.otlp_endpoint=http://collector:4318"], "networkPolicy.otlpTo is empty"),
    (&["telemetry.otlp_ca_file=/ca.pem"], "'otlp_ca_file'"),
    (&["otlpCaConfigMap=CA"], "'/otlpCaConfigMap'"),
    (&["drain.timeoutSeconds=-1"], "'/drain/timeoutSeconds'"),
    (&["drain.preStopSeconds=301"], "'/drain/preStopSeconds'"),
    (&["extraConfig=5"], "'/extraConfig'"),
    (&["logFilter=5"], "'/logFilter'"),
    (&["extraArgs={--listen=[::]:1}"], "extraArgs: \"--listen=[::]:1\" is the chart's own"),
    (&["extraArgs=--log-format"], "'/extraArgs'"),
    (&["extraEnv=RUST_LOG"], "'/extraEnv'"),
    (&["extraEnv[0].value=debug"], "missing property 'name'"),
    (&["extraEnv[0].name=A,extraEnv[0].value=5"], "'/extraEnv/0/value'"),
    (&["extraEnv[0].name=RUST_LOG"], "extraEnv: \"RUST_LOG\" can't stand there: logFilter is that variable"),
    (
        &["admin.existingSecret=a,extraEnv[0].name=WRITEBACK_ADMIN_TOKEN_FILE"],
        "extraEnv: \"WRITEBACK_ADMIN_TOKEN_FILE\" can't stand there: admin.existingSecret sets it",
    ),
    (&["extraEnv[0].name=A,extraEnv[1].name=A"], "extraEnv: \"A\" can't stand there: it stands twice"),
    (&["envFrom={proxy}"], "'/envFrom/0'"),
    (&["envFrom[0].secretRef=proxy"], "'/envFrom/0/secretRef'"),
    (&["envFrom[0].configmapRef.name=proxy"], "'configmapRef'"),
    (&["envFrom[0].prefix=A_"], "envFrom[0]: either configMapRef or secretRef is expected"),
    (&["envFrom[0].secretRef.name=a,envFrom[0].configMapRef.name=a"], "envFrom[0]: either configMapRef or secretRef"),
    (&["listenAddress=everywhere"], "'/listenAddress'"),
    (&["listenAddress=10.0.0.256"], "listenAddress = \"10.0.0.256\": it is no address"),
    (&["listenAddress=10.0.0"], "listenAddress = \"10.0.0\": it is no address"),
    (&["listenAddress=1:2"], "listenAddress = \"1:2\": it is no address"),
    (&["listenAddress=127.0.0.1"], "listenAddress = \"127.0.0.1\": nobody outside of the pod reaches it"),
    (&["global.imageRegistry=https://mirror.example.com"], "'/global/imageRegistry'"),
    (&["image.repository="], "'/image/repository'"),
    (&["image.repository=registry.example.com/writeback-relay:0.1.0"], "'/image/repository'"),
    (&["image.repository=registry.example.com/writeback-relay/"], "'/image/repository'"),
    (&["image.repository=https://registry.example.com/writeback-relay"], "'/image/repository'"),
    (&["image.tag=a tag"], "'/image/tag'"),
    (&["image.digest=latest"], "'/image/digest'"),
    (&["image.pullPolicy=Sometimes"], "'/image/pullPolicy'"),
    (&["imagePullSecrets={Registry}"], "'/imagePullSecrets/0'"),
    (&["imagePullSecrets[0].name=Registry"], "'/imagePullSecrets/0/name'"),
    (&["imagePullSecrets[0].name=registry,imagePullSecrets[0].namespace=a"], "'namespace'"),
    (&["nameOverride=Relay"], "'/nameOverride'"),
    (&["fullnameOverride=the relay"], "'/fullnameOverride'"),
    (&["commonLabels.team=our team"], "'/commonLabels/team'"),
    (&["commonLabels.our team=a"], "'/commonLabels': additional properties 'our team' not allowed"),
    (&["commonLabels.helm\\.sh/chart=a"], "commonLabels: \"helm.sh/chart\" is the chart's own"),
    (&["service.type=Headless"], "'/service/type'"),
    (&["service.nodePort=70000"], "'/service/nodePort'"),
    (&["service.nodePort=30443,service.type=ClusterIP"], "service.nodePort = 30443: it belongs to"),
    (&["service.loadBalancerClass=an NLB"], "'/service/loadBalancerClass'"),
    (&["service.loadBalancerClass=nlb,service.type=NodePort"], "service.loadBalancerClass: it belongs to"),
    (&["service.type=NodePort,service.loadBalancerSourceRanges={10.0.0.0/8}"], "service.loadBalancerSourceRanges: it"),
    (&["service.ipFamilyPolicy=Both"], "'/service/ipFamilyPolicy'"),
    (&["service.ipFamilyPolicy=RequireDualStack"], "listenAddress = \"0.0.0.0\": it does not hear IPv6"),
    (&["service.ipFamilies={ipv6}"], "'/service/ipFamilies/0'"),
    (&["service.ipFamilies={IPv4,IPv6}"], "service.ipFamilies: two of them need service.ipFamilyPolicy"),
    (&["service.labels.a=of ours"], "'/service/labels/a'"),
    (&["service.labels.of ours=a"], "'/service/labels': additional properties 'of ours'"),
    (&["service.labels.app\\.kubernetes\\.io/component=a"], "service.labels: \"app.kubernetes.io/component\" is"),
    (&["service.port=70000"], "'/service/port'"),
    (&["service.externalTrafficPolicy=Global"], "'/service/externalTrafficPolicy'"),
    (&["service.annotations.a=5"], "'/service/annotations/a'"),
    (&["service.annotations.of ours=a"], "'/service/annotations': additional properties 'of ours'"),
    (&["service.loadBalancerSourceRanges={everybody}"], "'/service/loadBalancerSourceRanges/0'"),
    (
        &["service.loadBalancerSourceRanges={300.1.1.1/8}"],
        "service.loadBalancerSourceRanges: \"300.1.1.1/8\" is no network",
    ),
    (
        &["service.loadBalancerSourceRanges={10.0.0.0/33}"],
        "service.loadBalancerSourceRanges: \"10.0.0.0/33\" is no network",
    ),
    (
        &["service.loadBalancerSourceRanges={2001:db8::1::/64}"],
        "service.loadBalancerSourceRanges: \"2001:db8::1::/64\" is no network",
    ),
    (
        &["service.loadBalancerSourceRanges={2001:db8::/129}"],
        "service.loadBalancerSourceRanges: \"2001:db8::/129\" is no network",
    ),
    (&["gateway.enabled=true"], "gateway.parentRefs is empty"),
    (&["gateway.kind=HTTPRoute"], "'/gateway/kind'"),
    (&["gateway.parentRefs={public}"], "'/gateway/parentRefs/0'"),
    (&["gateway.parentRefs[0].namespace=gateways"], "'/gateway/parentRefs/0': missing property 'name'"),
    (&["ingress.enabled=5"], "'/ingress/enabled'"),
    (
        &["ingress.enabled=true,publicUrl=https://Relay.example.com"],
        "publicUrl = \"https://Relay.example.com\": with ingress",
    ),
    (
        &["ingress.enabled=true,publicUrl=https://[2001:db8::1]:8443"],
        "publicUrl = \"https://[2001:db8::1]:8443\": with",
    ),
    (&["ingress.enabled=true,publicUrl=https://192.0.2.1"], "publicUrl = \"https://192.0.2.1\": with ingress.enabled"),
    (&["ingress.enabled=true,publicUrl=https://my_relay.example.com"], "publicUrl = \"https://my_relay.example.com\""),
    (
        &["gateway.enabled=true,gateway.parentRefs[0].name=a,publicUrl=https://RELAY.example.com"],
        "publicUrl = \"https://RELAY.example.com\": with gateway.kind = \"TLSRoute\"",
    ),
    (
        &[
            "tls.existingSecret=,tls.certManager.enabled=true,tls.certManager.issuerRef.name=a,publicUrl=https://Relay.a",
        ],
        "publicUrl = \"https://Relay.a\": with tls.certManager.enabled",
    ),
    (&["ingress.className=Nginx!"], "'/ingress/className'"),
    (&["ingress.annotations.a=5"], "'/ingress/annotations/a'"),
    (&["ingress.annotations./a=b"], "'/ingress/annotations': additional properties '/a'"),
    (&["ingress.tlsSecret=Ingress_TLS"], "'/ingress/tlsSecret'"),
    (&["autoscaling.enabled=5"], "'/autoscaling/enabled'"),
    (&["autoscaling.enabled=true,autoscaling.minReplicas=11"], "autoscaling.minReplicas = 11"),
    (&["autoscaling.maxReplicas=0"], "'/autoscaling/maxReplicas'"),
    (
        &["autoscaling.enabled=true,autoscaling.sessionsPerNode=0,autoscaling.cpuPercent=0"],
        "autoscaling.sessionsPerNode and autoscaling.cpuPercent are both 0",
    ),
    (&["autoscaling.metrics={cpu}"], "'/autoscaling/metrics/0'"),
    (&["autoscaling.behavior.scaledown.stabilizationWindowSeconds=5"], "'scaledown'"),
    (&["autoscaling.cpuPercent=101"], "'/autoscaling/cpuPercent'"),
    (&["podDisruptionBudget.enabled=5"], "'/podDisruptionBudget/enabled'"),
    (&["podDisruptionBudget.maxUnavailable=0"], "'/podDisruptionBudget/maxUnavailable'"),
    (&["networkPolicy.enabled=5"], "'/networkPolicy/enabled'"),
    (&["networkPolicy.publicFrom={10.0.0.0/8}"], "'/networkPolicy/publicFrom/0'"),
    (&["networkPolicy.monitoringNamespace=monitoring"], "'/networkPolicy/monitoringNamespace'"),
    (&["networkPolicy.monitoringNamespace.a name=a"], "'/networkPolicy/monitoringNamespace'"),
    (&["networkPolicy.redisTo={redis}"], "'/networkPolicy/redisTo/0'"),
    (&["networkPolicy.redisPorts={0}"], "'/networkPolicy/redisPorts/0'"),
    (&["networkPolicy.dnsNamespace=kube-system"], "'/networkPolicy/dnsNamespace'"),
    (&["networkPolicy.dnsNamespace.a name=a"], "'/networkPolicy/dnsNamespace'"),
    // Every namespace would be meant.
    (&["networkPolicy.dnsNamespace.kubernetes\\.io/metadata\\.name=null"], "'/networkPolicy/dnsNamespace'"),
    (&["networkPolicy.dns.ports={dns}"], "'/networkPolicy/dns/ports/0'"),
    (&["networkPolicy.dns.ports=null"], "networkPolicy.dns.ports is empty"),
    (&["networkPolicy.dns.extraTo={169.254.20.10}"], "'/networkPolicy/dns/extraTo/0'"),
    (&["networkPolicy.extraIngress={all}"], "'/networkPolicy/extraIngress/0'"),
    (&["networkPolicy.extraEgress={all}"], "'/networkPolicy/extraEgress/0'"),
    (&["networkPolicy.otlpTo={collector}"], "'/networkPolicy/otlpTo/0'"),
    (&["networkPolicy.otlpPort=70000"], "'/networkPolicy/otlpPort'"),
    (&["networkPolicy.oidcTo={id}"], "'/networkPolicy/oidcTo/0'"),
    (&["networkPolicy.oidcPorts={0}"], "'/networkPolicy/oidcPorts/0'"),
    (&["serviceMonitor.enabled=5"], "'/serviceMonitor/enabled'"),
    (&["serviceMonitor.labels.a=5"], "'/serviceMonitor/labels/a'"),
    (&["serviceMonitor.labels.-a=a"], "'/serviceMonitor/labels': additional properties '-a'"),
    (&["serviceMonitor.interval=often"], "'/serviceMonitor/interval'"),
    (&["serviceMonitor.interval=0s"], "'/serviceMonitor/interval'"),
    (&["serviceMonitor.scrapeTimeout=soon"], "'/serviceMonitor/scrapeTimeout'"),
    (&["serviceMonitor.scrapeTimeout=0s"], "'/serviceMonitor/scrapeTimeout'"),
    (&["serviceMonitor.scrapeTimeout=20s"], "serviceMonitor.scrapeTimeout = \"20s\": it is more than"),
    (&["serviceMonitor.relabelings={drop}"], "'/serviceMonitor/relabelings/0'"),
    (&["serviceMonitor.metricRelabelings={drop}"], "'/serviceMonitor/metricRelabelings/0'"),
    (&["serviceMonitor.namespace=Monitoring"], "'/serviceMonitor/namespace'"),
    (&["prometheusRule.namespace=a.b"], "'/prometheusRule/namespace'"),
    (&["prometheusRule.enabled=true"], "prometheusRule.runbookUrl is empty: say where your people read"),
    (&["prometheusRule.enabled=5"], "'/prometheusRule/enabled'"),
    (&["prometheusRule.labels.a=5"], "'/prometheusRule/labels/a'"),
    (&["prometheusRule.labels.a b=a"], "'/prometheusRule/labels': additional properties 'a b'"),
    (&["prometheusRule.runbookUrl=docs/operations.md"], "'/prometheusRule/runbookUrl'"),
    // An alert's own section stands behind it.
    (&["prometheusRule.runbookUrl=https://wiki.example.com/relay#alerts"], "'/prometheusRule/runbookUrl'"),
    (&["dashboards.enabled=5"], "'/dashboards/enabled'"),
    (&["dashboards.labels.a=5"], "'/dashboards/labels/a'"),
    (&["dashboards.labels.a b=a"], "'/dashboards/labels': additional properties 'a b'"),
    (&["dashboards.annotations.grafana_folder=5"], "'/dashboards/annotations/grafana_folder'"),
    (&["dashboards.annotations.grafana folder=a"], "'/dashboards/annotations': additional properties"),
    (&["dashboards.namespace=Monitoring"], "'/dashboards/namespace'"),
    (&["serviceAccount.create=5"], "'/serviceAccount/create'"),
    (&["serviceAccount.name=Relay"], "'/serviceAccount/name'"),
    (&["serviceAccount.annotations.a=5"], "'/serviceAccount/annotations/a'"),
    (&["serviceAccount.annotations.a b=a"], "'/serviceAccount/annotations': additional properties 'a b'"),
    (&["resources.requests.memory=null"], "'/resources/requests'"),
    (&["resources.limits=null"], "'limits'"),
    (&["resources.requests.cpu=much"], "'/resources/requests/cpu'"),
    (&["resources.limits.memory=512MB"], "'/resources/limits/memory'"),
    (&["resources.limits.memory=-1"], "'/resources/limits/memory'"),
    (&["podSecurityContext.runAsUser=nobody"], "'/podSecurityContext/runAsUser'"),
    (&["podSecurityContext.fsGroupChangePolicy=Never"], "'/podSecurityContext/fsGroupChangePolicy'"),
    (&["securityContext.readOnlyRootFilesystem=perhaps"], "'/securityContext/readOnlyRootFilesystem'"),
    (&["extraVolumes={scratch}"], "'/extraVolumes/0'"),
    (&["extraVolumes[0].name=tls"], "extraVolumes: \"tls\" can't stand there: it is the chart's own volume"),
    (&["extraVolumeMounts[0].name=a"], "'/extraVolumeMounts/0'"),
    (&["extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/a"], "extraVolumeMounts: \"a\" is not among"),
    (
        &["extraVolumes[0].name=a,extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/var/lib"],
        "extraVolumeMounts: \"/var/lib\" can't stand there",
    ),
    (
        &["extraVolumes[0].name=a,extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/var/lib/"],
        "extraVolumeMounts: \"/var/lib\" can't stand there",
    ),
    (&["initContainers={wait}"], "'/initContainers/0'"),
    (&["initContainers[0].name=The wait"], "'/initContainers/0/name'"),
    (&["extraContainers[0].image=logs"], "'/extraContainers/0'"),
    (&["extraContainers[0].name=relay"], "extraContainers: \"relay\" can't stand there: it is the chart's own"),
    (&["extraObjects=all"], "'/extraObjects'"),
    (&["extraObjects[0].kind=ConfigMap"], "'/extraObjects/0'"),
    (&["topologySpread=Perhaps"], "'/topologySpread'"),
    (&["topologySpreadConstraints={zones}"], "'/topologySpreadConstraints/0'"),
    (&["topologySpreadConstraints[0].topologyKey=kubernetes.io/hostname"], "'/topologySpreadConstraints/0'"),
    (&["nodeSelector.a=5"], "'/nodeSelector/a'"),
    (&["nodeSelector.a b=a"], "'/nodeSelector': additional properties 'a b'"),
    (&["tolerations={all}"], "'/tolerations/0'"),
    (&["affinity=none"], "'/affinity'"),
    (&["priorityClassName=High!"], "'/priorityClassName'"),
    (&["deploymentAnnotations.a=5"], "'/deploymentAnnotations/a'"),
    (&["deploymentAnnotations.a b=a"], "'/deploymentAnnotations': additional properties 'a b'"),
    (&["deploymentAnnotations.writeback-relay/replicas=a"], "deploymentAnnotations: \"writeback-relay/replicas\" is"),
    (&["podAnnotations.a=5"], "'/podAnnotations/a'"),
    (&["podAnnotations.a b=a"], "'/podAnnotations': additional properties 'a b'"),
    (&["podAnnotations.checksum/config=a"], "podAnnotations: \"checksum/config\" is the chart's own"),
    (&["podLabels.a=5"], "'/podLabels/a'"),
    (&["podLabels.a b=a"], "'/podLabels': additional properties 'a b'"),
    (&["podLabels.app\\.kubernetes\\.io/name=a"], "podLabels: \"app.kubernetes.io/name\" is the chart's own"),
    (&["colour=blue"], "'colour'"),
];

#[test]
fn each_wrong_value_gets_a_sentence_that_names_it() {
    for (set, named) in WRONG {
        let said = said(set);
        assert!(said.contains(named), "{set:?}: {said}");
        assert!(said.matches("- at '").count() <= 1, "more than one sentence: {said}");
        assert!(!said.contains("panic") && !said.contains("error calling include"), "{said}");
    }
}

/// Every value has a wrong one above, and so has every setting of `[limits]` and `[session]`.
#[test]
fn no_value_is_taken_as_it_comes() {
    let readme = read("helm/README.md");
    let values = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let tried: Vec<&str> = WRONG.iter().flat_map(|(set, _)| set.iter().flat_map(|set| set.split(','))).collect();
    let is_tried =
        |value: &str| tried.iter().any(|set| set.split(['=', '.', '[']).zip(value.split('.')).all(|(a, b)| a == b));
    let values: Vec<&str> = values.collect();
    assert!(values.len() > 70, "{values:?}");
    for value in values {
        assert!(is_tried(value), "no wrong {value} is tried");
    }
    let config = read("deploy/relay.toml");
    for (section, value) in [("limits", "limits"), ("session", "session")] {
        let (_, settings) = config.split_once(&format!("# [{section}]\n")).unwrap();
        for line in settings.lines().take_while(|line| line.starts_with('#')) {
            if let Some((setting, _)) = line.trim_start_matches("# ").split_once(" = ") {
                assert!(is_tried(&format!("{value}.{setting}")), "no wrong {value}.{setting} is tried");
            }
        }
    }
}

#[test]
fn the_readme_of_the_chart_is_what_the_comments_in_its_values_say() {
    let output = Command::new("python3").arg(project("helm/readme.py")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
