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
{{- with .Values.service }}
{{- if and .nodePort (eq .type "ClusterIP") }}
{{- fail (printf "service.nodePort = %d: it belongs to service.type = \"NodePort\" and \"LoadBalancer\"" (int .nodePort)) }}
{{- end }}
{{- range $name := list "loadBalancerClass" "loadBalancerSourceRanges" }}
{{- if and (index $.Values.service $name) (ne $.Values.service.type "LoadBalancer") }}
{{- fail (printf "service.%s: it belongs to service.type = \"LoadBalancer\" only" $name) }}
{{- end }}
{{- end }}
{{- if and (eq (len .ipFamilies) 2) (not (has .ipFamilyPolicy (list "PreferDualStack" "RequireDualStack"))) }}
{{- fail "service.ipFamilies: two of them need service.ipFamilyPolicy = \"PreferDualStack\" or \"RequireDualStack\"" }}
{{- end }}
{{- if and (or (has "IPv6" .ipFamilies) (eq .ipFamilyPolicy "RequireDualStack")) (not (contains ":" $.Values.listenAddress)) }}
{{- fail (printf "listenAddress = %q: it does not hear IPv6, which service.ipFamilies or service.ipFamilyPolicy asks for; set it to \"::\"" $.Values.listenAddress) }}
{{- end }}
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
{{- fail "prometheusRule.runbookUrl is empty: say where your people read docs/operations.md, for example https://wiki.example.com/writeback-relay; each alert links to its section there" }}
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
{{- include "relay.checkTwice" (list "extraEnv" "name" .Values.extraEnv (dict "RUST_LOG" "logFilter is that variable")) }}
{{- $own := dict }}
{{- range list "config" "tls" "data" "admin" "otlp-ca" "oidc-ca" "redis" "redis-ca" "redis-cert" }}
{{- $_ := set $own . "it is the chart's own volume" }}
{{- end }}
{{- include "relay.checkTwice" (list "extraVolumes" "name" .Values.extraVolumes $own) }}
{{- $own = dict "/var/lib" "the node's own data are there" "/var/lib/writeback-relay" "the node's own data are there" "/etc/writeback-relay/admin" "admin.existingSecret is mounted there" }}
{{- range list "" "/relay.toml" "/tls" "/otlp-ca" "/oidc-ca" "/redis" "/redis-ca" "/redis-cert" }}
{{- $_ := set $own (printf "/etc/writeback-relay%s" .) "the node's own configuration is there" }}
{{- end }}
{{- include "relay.checkTwice" (list "extraVolumeMounts" "mountPath" .Values.extraVolumeMounts $own) }}
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
