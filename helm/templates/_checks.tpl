{{- /* What the schema can't say. Each wrong value gets one sentence that names it. */ -}}
{{- define "relay.check" -}}
{{- $label := "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?" }}
{{- $port := "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])" }}
{{- if not (regexMatch (printf "^https://(%s([.]%s)*|\\[[0-9A-Fa-f:.]+\\])(:%s)?$" $label $label $port) .Values.publicUrl) }}
{{- fail (printf "publicUrl = %q: https://HOST or https://HOST:PORT is expected, with no slash at the end" .Values.publicUrl) }}
{{- end }}
{{- if eq .Values.store "embedded" }}
{{- if .Values.autoscaling.enabled }}
{{- fail "autoscaling.enabled = true: the embedded store is one file that one node has open, so a second node could not start; set store = \"redis\"" }}
{{- end }}
{{- if ne (int .Values.replicaCount) 1 }}
{{- fail (printf "replicaCount = %d: the embedded store is one file that one node has open, so a second node could not start; set replicaCount = 1, or store = \"redis\"" (int .Values.replicaCount)) }}
{{- end }}
{{- if .Values.redis.urls }}
{{- fail "redis.urls: it belongs to store = \"redis\", and store = \"embedded\"" }}
{{- end }}
{{- else }}
{{- if not .Values.redis.urls }}
{{- fail "redis.urls is empty: name at least one server, for example redis://redis:6379" }}
{{- end }}
{{- if and (eq .Values.redis.topology "single") (gt (len .Values.redis.urls) 1) }}
{{- fail "redis.urls: several servers need redis.topology = \"sentinel\" or \"cluster\"" }}
{{- end }}
{{- if not .Values.redis.existingSecret }}
{{- fail (printf "redis.existingSecret is empty: name the secret with the nodes' shared key under %q" .Values.redis.clusterKeyKey) }}
{{- end }}
{{- if .Values.redis.clientCertSecret }}
{{- range .Values.redis.urls }}
{{- if not (hasPrefix "rediss://" .) }}
{{- fail (printf "redis.clientCertSecret: it belongs to servers that are spoken to over TLS, and redis.urls names %q; write rediss://" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- $sentinel := eq .Values.redis.topology "sentinel" }}
{{- if ne $sentinel (not (empty .Values.redis.masterName)) }}
{{- fail (printf "redis.masterName = %q: it belongs to redis.topology = \"sentinel\", and to that only" .Values.redis.masterName) }}
{{- end }}
{{- range $name := list "sentinelUsername" "sentinelPasswordKey" }}
{{- if and (not $sentinel) (index $.Values.redis $name) }}
{{- fail (printf "redis.%s: it belongs to redis.topology = \"sentinel\" only" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq (empty .Values.tls.existingSecret) (not .Values.tls.certManager.enabled) }}
{{- if .Values.tls.existingSecret }}
{{- fail "tls.existingSecret: tls.certManager.enabled is true, too; choose one of them" }}
{{- end }}
{{- fail "tls.existingSecret is empty: name the secret with the certificate, or set tls.certManager.enabled" }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) }}
{{- fail "tls.certManager.issuerRef.name is empty: name the issuer" }}
{{- end }}
{{- with .Values.tls.certManager }}
{{- if le (include "relay.seconds" .duration | int64) (include "relay.seconds" .renewBefore | int64) }}
{{- fail (printf "tls.certManager.renewBefore = %q: it is not less than tls.certManager.duration = %q" .renewBefore .duration) }}
{{- end }}
{{- end }}
{{- with .Values.clientAddress }}
{{- range .trusted_proxies }}
{{- include "relay.checkNetwork" (list "clientAddress.trusted_proxies" .) }}
{{- end }}
{{- if not .from }}
{{- fail "clientAddress.from is missing: \"connection\", \"proxy_protocol\" or \"forwarded\" is expected" }}
{{- end }}
{{- if ne (eq .from "connection") (empty .trusted_proxies) }}
{{- fail (printf "clientAddress.trusted_proxies: the proxies' networks, like [\"10.0.0.0/8\"], are needed with from = \"proxy_protocol\" and \"forwarded\", and with nothing else; from = %q" .from) }}
{{- end }}
{{- end }}
{{- if and .Values.telemetry.otlp_endpoint .Values.networkPolicy.enabled (not .Values.networkPolicy.otlpTo) }}
{{- fail "networkPolicy.otlpTo is empty: with telemetry.otlp_endpoint, say where the collector is, or nothing gets there" }}
{{- end }}
{{- with .Values.admin }}
{{- $oidc := .oidc }}
{{- range $name := list "audience" "claim" "value" }}
{{- if and $oidc.issuer (not (index $oidc $name)) }}
{{- fail (printf "admin.oidc.%s is empty: admin.oidc.issuer needs it, to know operators among those that the issuer knows" $name) }}
{{- end }}
{{- end }}
{{- range $name := list "audience" "claim" "value" "caConfigMap" }}
{{- if and (not $oidc.issuer) (index $oidc $name) }}
{{- fail (printf "admin.oidc.%s: it needs admin.oidc.issuer, which is empty" $name) }}
{{- end }}
{{- end }}
{{- if and (not .staticToken) (not $oidc.issuer) }}
{{- fail "admin.staticToken = false: nobody could operate the nodes without admin.oidc.issuer" }}
{{- end }}
{{- if and (not .staticToken) .existingSecret }}
{{- fail "admin.existingSecret: its token is not taken, because admin.staticToken = false" }}
{{- end }}
{{- end }}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) }}
{{- fail "gateway.parentRefs is empty: name the Gateway to attach to" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail (printf "autoscaling.minReplicas = %d: it is more than autoscaling.maxReplicas = %d" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if and .enabled (not .sessionsPerNode) (not .cpuPercent) (not .metrics) }}
{{- fail "autoscaling.sessionsPerNode and autoscaling.cpuPercent are both 0, and autoscaling.metrics is empty: there is nothing to follow" }}
{{- end }}
{{- end }}
{{- include "relay.checkHost" . }}
{{- include "relay.checkService" . }}
{{- include "relay.checkMonitoring" . }}
{{- include "relay.checkExtras" . }}
{{- end }}
