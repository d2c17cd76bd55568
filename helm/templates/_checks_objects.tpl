{{- /* What the schema can't say of single objects, and of what is added to them. */ -}}

{{- /* Objects that name the host take names in lower case alone; the public URL itself would do with more. */ -}}
{{- define "relay.checkHost" -}}
{{- $host := include "relay.host" . }}
{{- $name := and (le (len $host) 253) (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$" $host) }}
{{- $address := ne (include "relay.hostIsAddress" .) "" }}
{{- $route := and .Values.gateway.enabled (eq .Values.gateway.kind "TLSRoute") | ternary "gateway.kind = \"TLSRoute\"" "" }}
{{- range $by := compact (list (.Values.ingress.enabled | ternary "ingress.enabled" "") $route) }}
{{- if or $address (not $name) }}
{{- fail (printf "publicUrl = %q: with %s its host must be a name in lower case, of letters, digits, hyphens and dots; an address can't be routed by name" $.Values.publicUrl $by) }}
{{- end }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not $address) (not $name) }}
{{- fail (printf "publicUrl = %q: with tls.certManager.enabled its host must be a name in lower case, of letters, digits, hyphens and dots, or an address" .Values.publicUrl) }}
{{- end }}
{{- end }}

{{- define "relay.checkService" -}}
{{- if not (regexMatch (printf "^(%s|%s)$" (include "relay.v4" .) (include "relay.v6" .)) .Values.listenAddress) }}
{{- fail (printf "listenAddress = %q: it is no address; \"0.0.0.0\" is all of the pod's, and \"::\" those of IPv6, too" .Values.listenAddress) }}
{{- end }}
{{- if has .Values.listenAddress (list "127.0.0.1" "::1") }}
{{- fail (printf "listenAddress = %q: nobody outside of the pod reaches it, kubelet's probes neither; \"0.0.0.0\" or \"::\" is expected" .Values.listenAddress) }}
{{- end }}
{{- with .Values.service }}
{{- if and .nodePort (eq .type "ClusterIP") }}
{{- fail (printf "service.nodePort = %d: it belongs to service.type = \"NodePort\" and \"LoadBalancer\"" (int .nodePort)) }}
{{- end }}
{{- range $name := list "loadBalancerClass" "loadBalancerSourceRanges" }}
{{- if and (index $.Values.service $name) (ne $.Values.service.type "LoadBalancer") }}
{{- fail (printf "service.%s: it belongs to service.type = \"LoadBalancer\" only" $name) }}
{{- end }}
{{- end }}
{{- range .loadBalancerSourceRanges }}
{{- include "relay.checkNetwork" (list "service.loadBalancerSourceRanges" .) }}
{{- end }}
{{- if and (eq (len .ipFamilies) 2) (not (has .ipFamilyPolicy (list "PreferDualStack" "RequireDualStack"))) }}
{{- fail "service.ipFamilies: two of them need service.ipFamilyPolicy = \"PreferDualStack\" or \"RequireDualStack\"" }}
{{- end }}
{{- if and (or (has "IPv6" .ipFamilies) (eq .ipFamilyPolicy "RequireDualStack")) (not (contains ":" $.Values.listenAddress)) }}
{{- fail (printf "listenAddress = %q: it does not hear IPv6, which service.ipFamilies or service.ipFamilyPolicy asks for; set it to \"::\"" $.Values.listenAddress) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What addresses of IPv4 and of IPv6 look like. */ -}}
{{- define "relay.v4" -}}
{{- $byte := "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])" -}}
({{ $byte }}[.]){3}{{ $byte }}
{{- end }}
{{- define "relay.v6" -}}
{{- $part := "[0-9A-Fa-f]{1,4}" }}
{{- $all := list (printf "(%s:){7}%s" $part $part) (printf "(%s:){1,7}:" $part) (printf ":(:%s){1,7}" $part) "::" }}
{{- /* So many after "::", and the rest before it. */}}
{{- range list 1 2 3 4 5 6 }}
{{- $all = append $all (printf "(%s:){1,%d}(:%s){1,%d}" $part (sub 7 .) $part .) }}
{{- end -}}
({{ join "|" $all }})
{{- end }}

{{- /* A network as the API server reads it: (list VALUE NETWORK). */ -}}
{{- define "relay.checkNetwork" -}}
{{- $v4 := printf "%s/(3[0-2]|[12]?[0-9])" (include "relay.v4" .) }}
{{- $v6 := printf "%s/(12[0-8]|1[01][0-9]|[1-9]?[0-9])" (include "relay.v6" .) }}
{{- if not (regexMatch (printf "^(%s|%s)$" $v4 $v6) (last .)) }}
{{- fail (printf "%s: %q is no network, like 10.0.0.0/8 or 2001:db8::/32" (first .) (last .)) }}
{{- end }}
{{- end }}

{{- define "relay.checkMonitoring" -}}
{{- if not .Values.networkPolicy.dns.ports }}
{{- fail "networkPolicy.dns.ports is empty: no name could be resolved, that of Redis neither" }}
{{- end }}
{{- with .Values.serviceMonitor }}
{{- if .scrapeTimeout }}
{{- if lt (include "relay.seconds" .interval | int64) (include "relay.seconds" .scrapeTimeout | int64) }}
{{- fail (printf "serviceMonitor.scrapeTimeout = %q: it is more than serviceMonitor.interval = %q" .scrapeTimeout .interval) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.prometheusRule.enabled (not .Values.prometheusRule.runbookUrl) }}
{{- fail "prometheusRule.runbookUrl is empty: say where your people read the project's docs/operations.md, for example https://wiki.example.com/writeback-relay; each alert links to its section there" }}
{{- end }}
{{- end }}

{{- define "relay.checkExtras" -}}
{{- range $where := list "podLabels" "commonLabels" }}
{{- range $label, $_ := index $.Values $where }}
{{- include "relay.checkLabel" (list $where $label) }}
{{- end }}
{{- end }}
{{- range $where := list "service" "serviceMonitor" "prometheusRule" "dashboards" }}
{{- range $label, $_ := (index $.Values $where).labels }}
{{- include "relay.checkLabel" (list (printf "%s.labels" $where) $label) }}
{{- end }}
{{- end }}
{{- range $note, $_ := .Values.deploymentAnnotations }}
{{- if hasPrefix "writeback-relay/" $note }}
{{- fail (printf "deploymentAnnotations: %q is the chart's own" $note) }}
{{- end }}
{{- end }}
{{- if hasKey .Values.podAnnotations "checksum/config" }}
{{- fail "podAnnotations: \"checksum/config\" is the chart's own" }}
{{- end }}
{{- $env := dict "RUST_LOG" "logFilter is that variable" }}
{{- if .Values.admin.existingSecret }}{{ $_ := set $env "WRITEBACK_ADMIN_TOKEN_FILE" "admin.existingSecret sets it" }}{{ end }}
{{- include "relay.checkTwice" (list "extraEnv" "name" .Values.extraEnv $env) }}
{{- range $at, $from := .Values.envFrom }}
{{- if eq (hasKey $from "configMapRef") (hasKey $from "secretRef") }}
{{- fail (printf "envFrom[%d]: either configMapRef or secretRef is expected" $at) }}
{{- end }}
{{- end }}
{{- $own := dict }}
{{- range list "config" "tls" "data" "admin" "otlp-ca" "oidc-ca" "redis" "redis-ca" "redis-cert" }}
{{- $_ := set $own . "it is the chart's own volume" }}
{{- end }}
{{- include "relay.checkTwice" (list "extraVolumes" "name" .Values.extraVolumes $own) }}
{{- $own = dict "/var/lib" "the node's own data are there" "/var/lib/writeback-relay" "the node's own data are there" "/etc/writeback-relay/admin" "admin.existingSecret is mounted there" }}
{{- range list "" "/relay.toml" "/tls" "/otlp-ca" "/oidc-ca" "/redis" "/redis-ca" "/redis-cert" }}
{{- $_ := set $own (printf "/etc/writeback-relay%s" .) "the node's own configuration is there" }}
{{- end }}
{{- $mounts := list }}
{{- range .Values.extraVolumeMounts }}{{ $mounts = append $mounts (dict "mountPath" (clean .mountPath)) }}{{ end }}
{{- include "relay.checkTwice" (list "extraVolumeMounts" "mountPath" $mounts $own) }}
{{- $volumes := list }}
{{- range .Values.extraVolumes }}{{ $volumes = append $volumes .name }}{{ end }}
{{- range .Values.extraVolumeMounts }}
{{- if not (has .name $volumes) }}
{{- fail (printf "extraVolumeMounts: %q is not among extraVolumes" .name) }}
{{- end }}
{{- end }}
{{- include "relay.checkTwice" (list "extraContainers" "name" (concat .Values.extraContainers .Values.initContainers) (dict "relay" "it is the chart's own container")) }}
{{- range .Values.extraArgs }}
{{- if regexMatch "^--(config|dev-tls|data-dir|listen|ops-listen|public-url)(=|$)" . }}
{{- fail (printf "extraArgs: %q is the chart's own; what the configuration has is said in the values" .) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "relay.checkLabel" -}}
{{- if or (has (last .) (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "app.kubernetes.io/component")) (hasPrefix "helm.sh/" (last .)) }}
{{- fail (printf "%s: %q is the chart's own" (first .) (last .)) }}
{{- end }}
{{- end }}

{{- /* The API refuses a list in which a key stands twice: (list VALUE KEY ENTRIES TAKEN). */ -}}
{{- define "relay.checkTwice" -}}
{{- $value := index . 0 }}{{ $key := index . 1 }}{{ $taken := index . 3 }}
{{- range index . 2 }}
{{- $name := get . $key }}
{{- with get $taken $name }}
{{- fail (printf "%s: %q can't stand there: %s" $value $name .) }}
{{- end }}
{{- $_ := set $taken $name "it stands twice" }}
{{- end }}
{{- end }}
