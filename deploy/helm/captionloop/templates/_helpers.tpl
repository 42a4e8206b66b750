{{/* The full name of this release's objects. */}}
{{- define "captionloop.name" -}}
{{- if contains .Chart.Name .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{/* Labels of every object. Call with (dict "root" $ "component" "gateway"). */}}
{{- define "captionloop.labels" -}}
{{ include "captionloop.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "captionloop.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* An image of ours. Call with (dict "root" $ "repository" "captionloop-service"). */}}
{{- define "captionloop.image" -}}
{{- with .root.Values.image.registry }}{{ . }}/{{ end -}}
{{ .repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* What every pod of ours has: no root, no privileges, spread over nodes. */}}
{{- define "captionloop.pod" -}}
serviceAccountName: {{ include "captionloop.name" .root }}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- if .root.Values.topologySpread }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "captionloop.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{- define "captionloop.container" -}}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Name of the secret with the database URLs. */}}
{{- define "captionloop.databaseSecret" -}}
{{- .Values.postgresql.existingSecret | default (printf "%s-database" (include "captionloop.name" .)) -}}
{{- end -}}

{{- define "captionloop.trackingUri" -}}
{{- if .Values.mlflow.enabled -}}http://{{ include "captionloop.name" . }}-mlflow:5000
{{- else -}}{{ required "mlflow.trackingUri is needed where mlflow.enabled is false" .Values.mlflow.trackingUri }}{{- end -}}
{{- end -}}

{{/* The archive of people's photos: an address, or where its volume is mounted. */}}
{{- define "captionloop.photos" -}}
{{- .Values.photos.uri | default "/photos" -}}
{{- end -}}

{{/* Where task pods leave the drift report and gateways look for it: what both reach in any case is the photo archive. */}}
{{- define "captionloop.driftReport" -}}
{{- .Values.settings.driftReport | default (printf "%s/reports/drift.json" (include "captionloop.photos" . | trimSuffix "/")) -}}
{{- end -}}

{{/* Environment that gateway, model server and migrations share. */}}
{{- define "captionloop.environment" -}}
- {name: CAPTIONLOOP_STATE, value: /state}
- {name: CAPTIONLOOP_LOG_LEVEL, value: {{ .Values.settings.logLevel | quote }}}
- {name: BENTOML_HOME, value: /state/bentoml}
- {name: HOME, value: /state}
- {name: BENTOML_DO_NOT_TRACK, value: "True"}
- {name: DO_NOT_TRACK, value: "1"}
{{- with .Values.settings.tracesEndpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end -}}

{{/* Public keys that models must be signed by: the setting, the mount, and the volume. */}}
{{- define "captionloop.trustStore" -}}
{{- if and .Values.signing.trustSecret .Values.signing.trustConfigMap }}
{{- fail "signing.trustSecret and signing.trustConfigMap both name the trusted keys: give one of them" }}
{{- end }}
{{- or .Values.signing.trustSecret .Values.signing.trustConfigMap -}}
{{- end -}}

{{- define "captionloop.trustVolume" -}}
name: trusted-keys
{{- if .Values.signing.trustSecret }}
secret: {secretName: {{ .Values.signing.trustSecret }}, defaultMode: 0444}
{{- else }}
configMap: {name: {{ .Values.signing.trustConfigMap }}, defaultMode: 0444}
{{- end }}
{{- end -}}

{{/* CPU, and, where a metrics adapter serves it, what is under way. The larger wish wins. */}}
{{- define "captionloop.hpaMetrics" -}}
- type: Resource
  resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ .cpu }}}}
{{- if .average }}
- type: Pods
  pods:
    metric: {name: {{ .metric }}}
    target: {type: AverageValue, averageValue: {{ .average | quote }}}
{{- end }}
{{- end -}}

{{/* Twice as many within half a minute; fewer only when fewer would have done for five minutes. */}}
{{- define "captionloop.hpaBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Percent, value: 100, periodSeconds: 30}
scaleDown:
  stabilizationWindowSeconds: {{ .scaleDownSeconds }}
{{- end -}}

{{/* Where there is more than one pod: with one alone, a budget would block every drain of its node. */}}
{{- define "captionloop.disruptionBudget" -}}
{{- if gt (int (ternary .values.autoscaling.minReplicas .values.replicas .values.autoscaling.enabled)) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels: {{ include "captionloop.labels" . | nindent 4 }}
spec:
  minAvailable: {{ .values.podDisruptionBudget.minAvailable }}
  selector:
    matchLabels: {{ include "captionloop.selector" . | nindent 6 }}
{{- end }}
{{- end -}}
