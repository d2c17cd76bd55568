{{- define "relay.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "relay.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "relay.name" .) .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name (include "relay.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "relay.selector" -}}
app.kubernetes.io/name: {{ include "relay.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "relay.labels" -}}
{{ include "relay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "relay.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* The host of publicUrl, without its port. */ -}}
{{- define "relay.host" -}}
{{ regexReplaceAll ":[0-9]+$" (trimPrefix "https://" .Values.publicUrl) "" }}
{{- end }}

{{- /* The operator's listener, for a command in the same pod. */ -}}
{{- define "relay.opsUrl" -}}
{{- $here := get (dict "0.0.0.0" "127.0.0.1" "::" "::1") .Values.listenAddress | default .Values.listenAddress -}}
http://{{ contains ":" $here | ternary (printf "[%s]" $here) $here }}:9443
{{- end }}

{{- define "relay.tlsSecret" -}}
{{ .Values.tls.existingSecret | default (printf "%s-tls" (include "relay.fullname" .)) }}
{{- end }}

{{- /* A duration like 2160h, in seconds. */ -}}
{{- define "relay.seconds" -}}
{{- $unit := index (dict "h" 3600 "m" 60 "s" 1) (regexFind "[hms]$" .) -}}
{{ mul $unit (regexFind "^[0-9]+" . | int64) }}
{{- end }}

{{- define "relay.gracePeriod" -}}
{{ add .Values.drain.preStopSeconds .Values.drain.timeoutSeconds 5 }}
{{- end }}

{{- /* The restricted Pod Security Standard, for a pod and for a container. */ -}}
{{- define "relay.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
{{- /* Once, and not at each start: it would let the group read and write every file, and the node refuses such a token. */}}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "relay.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Keys and values of a TOML section. Helm reads every number as a float; TOML tells them apart. */ -}}
{{- define "relay.toml" -}}
{{- range $key, $value := . }}
{{- if kindIs "float64" $value }}{{ $key }} = {{ if eq (floor $value) $value }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}
{{ else }}{{ $key }} = {{ toJson $value }}
{{ end }}
{{- end }}
{{- end }}
