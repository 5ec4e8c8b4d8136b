{{/* Every component: what `--only` calls it, and by which pattern its metrics' label `component` is found. */}}
{{- define "afflux.components" -}}
gateway: {only: producers.otlp, config: producers.otlp, metrics: producers.otlp}
events: {only: producers.kubernetes, config: producers.kubernetes, metrics: producers.kubernetes}
logs: {only: producers.files, config: producers.files, metrics: producers.files}
processors: {only: processors, config: processors, metrics: processors.*}
parquet: {only: sinks.parquet, config: sinks.parquet, metrics: sinks.parquet}
loki: {only: sinks.loki, config: sinks.loki, metrics: sinks.loki}
tempo: {only: sinks.tempo, config: sinks.tempo, metrics: sinks.tempo}
prometheus: {only: sinks.prometheus, config: sinks.prometheus, metrics: sinks.prometheus}
topics: {}
{{- end }}

{{/*
Those that are switched on, as a map from name to what templates need of one: `root`, `name`, `about` (above) and
`values`. `topics` comes from `topicsJob`, since `topics` is the shape of the topics themselves.
*/}}
{{- define "afflux.enabled" -}}
{{- $on := dict }}
{{- range $name, $about := include "afflux.components" . | fromYaml }}
{{- $values := index $.Values (eq $name "topics" | ternary "topicsJob" $name) }}
{{- if $values.enabled }}{{ $_ := set $on $name (dict "about" $about "values" $values) }}{{ end }}
{{- end }}
{{- toYaml $on }}
{{- end }}

{{- define "afflux.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* The release's name; the chart's is put behind it where it is not in it. */}}
{{- define "afflux.fullname" -}}
{{- $name := include "afflux.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "afflux.image" -}}
{{- $image := .Values.image }}
{{- $image.repository }}{{ with $image.digest }}@{{ . }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Labels by which all pods of the release are found. */}}
{{- define "afflux.selector" -}}
app.kubernetes.io/name: {{ include "afflux.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of what belongs to the release as a whole. */}}
{{- define "afflux.labels" -}}
{{ include "afflux.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: afflux
{{- if not .Values.plain }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
{{- end }}

{{/* Name, namespace and labels of an object of one component: `list $ "gateway"`. */}}
{{- define "afflux.metadata" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 -}}
name: {{ include "afflux.fullname" $root }}-{{ $component }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "afflux.labels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ $component }}
{{- end }}

{{/* Labels by which the pods of one component are found: `list $ "gateway"`. */}}
{{- define "afflux.componentSelector" -}}
{{ include "afflux.selector" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Replicas that a component has at least: `list $ "gateway" values`. */}}
{{- define "afflux.leastReplicas" -}}
{{- $root := index . 0 }}
{{- $values := index . 2 }}
{{- $own := $values.autoscaling | default dict }}
{{- if and $root.Values.autoscaling.enabled $own.enabled }}{{ $own.minReplicas }}{{ else }}{{ $values.replicas }}{{ end }}
{{- end }}
