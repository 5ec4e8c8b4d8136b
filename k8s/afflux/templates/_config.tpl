{{/*
Secrets are referred to, never written down: a ConfigMap is readable by many. `list config "where"` fails at a key that
holds one.
*/}}
{{- define "afflux.refuseSecrets" -}}
{{- $where := index . 1 }}
{{- $secret := list "password" "key_password" "token" "client_secret" "secret" "secret_access_key" "access_key_id" "session_token" "sasl.password" "ssl.key.password" "authorization" }}
{{- range $key, $value := index . 0 }}
{{- $path := printf "%s.%s" $where $key }}
{{- if and $value (has ($key | lower) $secret) }}
{{- fail (printf "%s: a secret may not be written into a ConfigMap; mount it (`secretMounts`) and name its file, or give it by `env` from a secretKeyRef" $path) }}
{{- end }}
{{- if kindIs "map" $value }}
{{- include "afflux.refuseSecrets" (list $value $path) }}
{{- else if kindIs "slice" $value }}
{{- range $index, $item := $value }}
{{- if kindIs "map" $item }}{{ include "afflux.refuseSecrets" (list $item (printf "%s[%d]" $path $index)) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The bus, as all components reach it. */}}
{{- define "afflux.kafka" -}}
{{- $kafka := .Values.kafka -}}
brokers: {{ required "kafka.brokers: name at least one broker" $kafka.brokers | toJson }}
{{- if $kafka.tls.enabled }}
tls:
  {{- if $kafka.tls.ca.secret }}
  ca: /etc/afflux/kafka/ca/{{ $kafka.tls.ca.key }}
  {{- end }}
  {{- if $kafka.tls.client.secret }}
  certificate: /etc/afflux/kafka/client/{{ $kafka.tls.client.certificate }}
  key: /etc/afflux/kafka/client/{{ $kafka.tls.client.key }}
  {{- end }}
  verify_hostname: {{ $kafka.tls.verifyHostname }}
{{- end }}
{{- with $kafka.sasl }}
{{- if .mechanism }}
sasl:
  mechanism: {{ .mechanism }}
  {{- if eq .mechanism "OAUTHBEARER" }}
  token_file: /etc/afflux/kafka/sasl/{{ .key }}
  {{- else }}
  username: {{ required "kafka.sasl.username: who logs in" .username }}
  password_file: /etc/afflux/kafka/sasl/{{ .key }}
  {{- end }}
{{- end }}
{{- end }}
{{- with $kafka.config }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the chart itself settles of one component's own section: `list $ "gateway"`. */}}
{{- define "afflux.own" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- $listen := $root.Values.listenAddress }}
{{- if eq $component "gateway" }}
grpc: {listen: "{{ $listen }}:4317"}
http: {listen: "{{ $listen }}:4318"}
{{- else if eq $component "events" }}
leader_election: {enabled: true, name: {{ include "afflux.fullname" $root }}-events}
{{- else if eq $component "logs" }}
paths: ["/var/log/pods/*/*/*.log"]
# Containers of Afflux: their own lines would come back to them.
exclude: ["/var/log/pods/*/afflux/*.log"]
positions: /var/lib/afflux/positions
{{- else if eq $component "parquet" }}
url: {{ required "parquet.url: where the lake is" $root.Values.parquet.url }}
{{- else if eq $component "loki" }}
url: {{ required "loki.url: the address of Loki" $root.Values.loki.url }}
{{- else if eq $component "tempo" }}
endpoint: {{ required "tempo.endpoint: the address of Tempo" $root.Values.tempo.endpoint }}
{{- else if eq $component "prometheus" }}
url: {{ required "prometheus.url: the address of the remote write receiver" $root.Values.prometheus.url }}
{{- end }}
{{- end }}

{{/* The text of afflux.yaml: `list $ "gateway" about values`. */}}
{{- define "afflux.config" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- $about := index . 2 }}
{{- $values := index . 3 }}
{{- $v := $root.Values }}
{{- if and (has $component (list "gateway" "events" "logs")) (not $v.cluster) }}
{{- fail "cluster: give each cluster a name of its own, by which its data is told from that of others" }}
{{- end }}
{{- $kafka := include "afflux.kafka" $root | fromYaml }}
{{- $config := dict
  "shutdown_timeout" $v.shutdownTimeout
  "log" (dict "level" $v.log.level "format" "json")
  "admin" (dict "listen" (printf "%s:9464" $v.listenAddress))
  "bus" (dict "kind" "kafka" "create_topics" false "kafka" $kafka)
  "topics" (deepCopy $v.topics) }}
{{- with $v.cluster }}{{ $_ := set $config "cluster" . }}{{ end }}
{{- if $about.only }}
{{- $_ := set $config "producers" (dict "otlp" false) }}
{{- $_ := set $config "processors" false }}
{{- $_ := set $config "sinks" (dict "parquet" false) }}
{{- $own := include "afflux.own" (list $root $component) | fromYaml }}
{{- $section := mergeOverwrite $own (deepCopy ($values.config | default dict)) }}
{{- /* The DaemonSet gives these by the environment, with the name of the node. */ -}}
{{- if eq $component "logs" }}{{ $_ := unset $section "attributes" }}{{ end }}
{{- $path := splitList "." $about.config }}
{{- if eq (len $path) 2 }}
{{- $_ := set (get $config (index $path 0)) (index $path 1) $section }}
{{- else }}
{{- $_ := set $config (index $path 0) $section }}
{{- end }}
{{- end }}
{{- include "afflux.refuseSecrets" (list $config "config") }}
{{- toYaml $config }}
{{- end }}
