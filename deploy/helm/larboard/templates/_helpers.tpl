{{/* The name of everything that is the injector's. Webhook, program and chart agree on it. */}}
{{- define "larboard.name" -}}larboard-injector{{- end }}

{{- define "larboard.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "larboard.selector" -}}
app.kubernetes.io/name: {{ include "larboard.name" . }}
{{- end }}

{{- define "larboard.labels" -}}
{{ include "larboard.selector" . }}
app.kubernetes.io/part-of: larboard
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The settings: those of the values over the image and the namespace of this release. */}}
{{- define "larboard.settings" -}}
{{- $ours := dict "image" (include "larboard.image" .) "pull_policy" .Values.image.pullPolicy "namespace" .Release.Namespace "never" .Values.webhook.excludedNamespaces -}}
{{- toYaml (mergeOverwrite $ours (deepCopy .Values.settings)) }}
{{- end }}

{{/* One webhook; what differs is its name, and whom it asks about. */}}
{{- define "larboard.webhook" -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    name: {{ include "larboard.name" . }}
    namespace: {{ .Release.Namespace }}
    path: /mutate
    port: 443
rules:
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE]
  resources: [pods]
  scope: Namespaced
sideEffects: None
reinvocationPolicy: IfNeeded
matchPolicy: Equivalent
failurePolicy: {{ .Values.webhook.failurePolicy }}
timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
{{- end }}

{{/* Namespaces that no selector may name: a cluster must come up without an injector. */}}
{{- define "larboard.excluded" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: {{ append .Values.webhook.excludedNamespaces .Release.Namespace | uniq | toJson }}
{{- end }}
