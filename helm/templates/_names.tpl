{{- define "relay.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "relay.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "relay.name" .) .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name (include "relay.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* The name of an object that may be made in another namespace: (list $ NAMESPACE). There it says whose it is, because a
release of the same name in a third one may have one there, too; no namespace has a dot. */ -}}
{{- define "relay.nameIn" -}}
{{- $root := first . }}
{{- if has (last .) (list "" $root.Release.Namespace) }}{{ include "relay.fullname" $root }}
{{- else }}{{ printf "%s.%s" $root.Release.Namespace (include "relay.fullname" $root) }}
{{- end }}
{{- end }}

{{- define "relay.selector" -}}
app.kubernetes.io/name: {{ include "relay.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* An object's labels: (list $ further...). No key stands twice, and the chart's own win. */ -}}
{{- define "relay.labelled" -}}
{{- $root := first . }}
{{- $labels := include "relay.selector" $root | fromYaml }}
{{- $_ := set $labels "app.kubernetes.io/version" $root.Chart.AppVersion }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}
{{- range rest . }}{{ $labels = merge $labels . }}{{ end }}
{{- toYaml (merge $labels $root.Values.commonLabels) }}
{{- end }}

{{- define "relay.labels" -}}
{{ include "relay.labelled" (list .) }}
{{- end }}

{{- /* global.imageRegistry takes the place of the registry in image.repository, if there is one: a first part with a dot, a
port, or localhost. */ -}}
{{- define "relay.image" -}}
{{- $repository := .Values.image.repository }}
{{- with (.Values.global).imageRegistry }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $repository "") }}
{{- end }}
{{- if .Values.image.digest }}{{ $repository }}@{{ .Values.image.digest }}
{{- else }}{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* As the API has them; names alone are taken, too. */ -}}
{{- define "relay.imagePullSecrets" -}}
{{- range .Values.imagePullSecrets }}
- name: {{ if kindIs "string" . }}{{ . | quote }}{{ else }}{{ .name | quote }}{{ end }}
{{- end }}
{{- end }}

{{- define "relay.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "relay.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}
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

{{- /* Whether that is an address, and no name. */ -}}
{{- define "relay.hostIsAddress" -}}
{{- if regexMatch "^(\\[.*\\]|[0-9.]+)$" (include "relay.host" .) }}true{{ end }}
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

{{- /* Keys and values of a TOML section. Helm reads every number as a float; TOML tells them apart. */ -}}
{{- define "relay.toml" -}}
{{- range $key, $value := . }}
{{- if kindIs "float64" $value }}{{ $key }} = {{ if eq (floor $value) $value }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}
{{ else }}{{ $key }} = {{ toJson $value }}
{{ end }}
{{- end }}
{{- end }}
