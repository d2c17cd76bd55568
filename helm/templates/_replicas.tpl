{{- /*
How many nodes stand in the manifest. Whoever applies it sets the number, and so does the autoscaler, and so does kubectl
scale. Three things must not happen: that a number which is dropped from the manifest becomes 1, which is what Kubernetes
makes of none; that an upgrade takes away nodes that somebody else has added; and that helm 4 applies another number than
theirs, which is a conflict and ends the upgrade. So the number of the Deployment that is there stays, unless replicaCount
itself is changed; the annotation remembers what it was. Without a cluster to look at (helm template), nothing is there.
*/ -}}

{{- define "relay.deployed" -}}
{{- toYaml (lookup "apps/v1" "Deployment" .Release.Namespace (include "relay.fullname" .)) }}
{{- end }}

{{- /* Which part of the object somebody set, as the API server notes it: whether anybody set replicas by its scale. */ -}}
{{- define "relay.scaledByOthers" -}}
{{- range .metadata.managedFields }}
{{- $fields := get (get . "fieldsV1" | default dict) "f:spec" | default dict }}
{{- if and (hasKey $fields "f:replicas") (eq (get . "subresource") "scale") }}true{{ end }}
{{- end }}
{{- end }}

{{- /* Whether helm applies from the server's side (helm 4). Then a number that somebody else has set stays if it is dropped. */ -}}
{{- define "relay.applied" -}}
{{- range .metadata.managedFields }}
{{- if and (eq .operation "Apply") (hasKey (get (get . "fieldsV1" | default dict) "f:spec" | default dict) "f:template") }}true{{ end }}
{{- end }}
{{- end }}

{{- /* A number, or nothing: then whoever has set it goes on doing so. */ -}}
{{- define "relay.replicas" -}}
{{- $deployed := include "relay.deployed" . | fromYaml }}
{{- $count := int .Values.replicaCount }}
{{- if not $deployed }}
{{- if not .Values.autoscaling.enabled }}{{ $count }}{{ end }}
{{- else }}
{{- $annotations := $deployed.metadata.annotations | default dict }}
{{- $live := int $deployed.spec.replicas }}
{{- $others := include "relay.scaledByOthers" $deployed }}
{{- if .Values.autoscaling.enabled }}
{{- $absent := get $annotations "writeback-relay/replicas" | eq "autoscaler" }}
{{- if not (hasKey $annotations "writeback-relay/replica-count") }}
{{- /* An older chart made it: none, if there is an autoscaler. */}}
{{- $absent = not (empty (lookup "autoscaling/v2" "HorizontalPodAutoscaler" .Release.Namespace (include "relay.fullname" .))) }}
{{- end }}
{{- if not (or $absent (and $others (include "relay.applied" $deployed))) }}{{ $live }}{{ end }}
{{- else }}
{{- $unchanged := ne $others "" }}
{{- with get $annotations "writeback-relay/replica-count" }}{{ $unchanged = eq . (toString $count) }}{{ end }}
{{- $kept := eq .Values.store "embedded" | ternary (min $live 1) $live }}
{{- $unchanged | ternary $kept $count }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What the next upgrade has to know. */ -}}
{{- define "relay.replicasNote" -}}
writeback-relay/replica-count: {{ int .Values.replicaCount | quote }}
{{- if not (include "relay.replicas" .) }}
writeback-relay/replicas: autoscaler
{{- end }}
{{- end }}
