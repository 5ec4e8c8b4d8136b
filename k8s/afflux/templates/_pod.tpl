{{/* Pod Security "restricted"; `logs` alone adds a group and host paths. */}}
{{- define "afflux.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "afflux.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Volumes and where they are mounted: `dict volumes mounts`. Arguments: `list $ "gateway" values`. */}}
{{- define "afflux.volumes" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- $values := index . 2 }}
{{- $kafka := $root.Values.kafka -}}
mounts:
  - {name: config, mountPath: /etc/afflux/afflux.yaml, subPath: afflux.yaml, readOnly: true}
  {{- if and $kafka.tls.enabled $kafka.tls.ca.secret }}
  - {name: kafka-ca, mountPath: /etc/afflux/kafka/ca, readOnly: true}
  {{- end }}
  {{- if and $kafka.tls.enabled $kafka.tls.client.secret }}
  - {name: kafka-client, mountPath: /etc/afflux/kafka/client, readOnly: true}
  {{- end }}
  {{- if $kafka.sasl.mechanism }}
  - {name: kafka-sasl, mountPath: /etc/afflux/kafka/sasl, readOnly: true}
  {{- end }}
  {{- range $values.secretMounts }}
  - {name: secret-{{ .name }}, mountPath: /etc/afflux/secrets/{{ .name }}, readOnly: true}
  {{- end }}
  {{- if eq $component "logs" }}
  - {name: pod-logs, mountPath: /var/log/pods, readOnly: true}
  - name: state
    mountPath: /var/lib/afflux
    {{- with $values.state.subPath }}
    subPath: {{ . }}
    {{- end }}
  {{- else if and (eq $component "parquet") $values.existingClaim }}
  - {name: lake, mountPath: /lake}
  {{- end }}
volumes:
  - name: config
    configMap: {name: {{ include "afflux.fullname" $root }}-{{ $component }}}
  {{- if and $kafka.tls.enabled $kafka.tls.ca.secret }}
  - name: kafka-ca
    secret: {secretName: {{ $kafka.tls.ca.secret }}, defaultMode: 0440, items: [{key: {{ $kafka.tls.ca.key }}, path: {{ $kafka.tls.ca.key }}}]}
  {{- end }}
  {{- if and $kafka.tls.enabled $kafka.tls.client.secret }}
  - name: kafka-client
    secret: {secretName: {{ $kafka.tls.client.secret }}, defaultMode: 0440}
  {{- end }}
  {{- with $kafka.sasl }}
  {{- if .mechanism }}
  - name: kafka-sasl
    secret: {secretName: {{ required "kafka.sasl.secret: the Secret that holds the password or token" .secret }}, defaultMode: 0440, items: [{key: {{ .key }}, path: {{ .key }}}]}
  {{- end }}
  {{- end }}
  {{- range $values.secretMounts }}
  - name: secret-{{ .name }}
    secret: {secretName: {{ .secret }}, defaultMode: 0440}
  {{- end }}
  {{- if eq $component "logs" }}
  - name: pod-logs
    hostPath: {path: /var/log/pods, type: Directory}
  - name: state
    hostPath: {path: {{ $values.state.hostPath }}, type: Directory}
  {{- else if and (eq $component "parquet") $values.existingClaim }}
  - name: lake
    persistentVolumeClaim: {claimName: {{ $values.existingClaim }}}
  {{- end }}
{{- end }}

{{/* Variables of the container: `list "logs" values`. */}}
{{- define "afflux.env" -}}
{{- $component := index . 0 }}
{{- $values := index . 1 }}
{{- if eq $component "events" }}
# Names this replica in the lease.
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- else if eq $component "logs" }}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: AFFLUX__PRODUCERS__FILES__ATTRIBUTES
  value: {{ mergeOverwrite (dict "k8s.node.name" "$(NODE_NAME)") (($values.config | default dict).attributes | default dict) | toJson | quote }}
{{- end }}
{{- range $values.env }}
{{- if and .value (regexMatch "(PASSWORD|TOKEN|SECRET|ACCESS_KEY|ACCESS_KEY_ID)$" (upper .name)) }}
{{- fail (printf "%s.env: %s holds a secret; give it by valueFrom.secretKeyRef" $component .name) }}
{{- end }}
{{- end }}
{{- with $values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A pod template: `list $ "gateway" about values`. */}}
{{- define "afflux.podTemplate" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- $about := index . 2 }}
{{- $values := index . 3 }}
{{- $selector := list $root $component }}
{{- $disk := include "afflux.volumes" (list $root $component $values) | fromYaml -}}
metadata:
  labels:
    {{- include "afflux.componentSelector" $selector | nindent 4 }}
    app.kubernetes.io/version: {{ $root.Values.image.tag | default $root.Chart.AppVersion | quote }}
    app.kubernetes.io/part-of: afflux
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    kubectl.kubernetes.io/default-container: afflux
    # The program reads its configuration once, so another one takes other pods.
    checksum/config: {{ include "afflux.config" . | sha256sum }}
    {{- with $values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "afflux.fullname" $root }}-{{ $component }}
  # Only the watcher of events talks to the API server.
  automountServiceAccountToken: {{ eq $component "events" }}
  enableServiceLinks: false
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName | default $root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- $security := include "afflux.podSecurityContext" $root | fromYaml }}
    {{- toYaml (mergeOverwrite $security (deepCopy ($values.podSecurityContext | default dict))) | nindent 4 }}
  {{- if $about.only }}
  # `shutdownTimeout` and the preStop hook, and a little more: what is cut off is read again from the bus.
  terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
  {{- else }}
  restartPolicy: Never
  {{- end }}
  containers:
    # Named so that the log DaemonSet leaves its lines out.
    - name: afflux
      image: {{ include "afflux.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      {{- if $about.only }}
      args: [run, --config, /etc/afflux/afflux.yaml, --only, {{ $about.only }}]
      {{- else }}
      args: [topics, apply, --config, /etc/afflux/afflux.yaml]
      {{- end }}
      securityContext:
        {{- include "afflux.containerSecurityContext" $root | nindent 8 }}
      {{- with include "afflux.env" (list $component $values) | trim }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with $values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $about.only }}
      ports:
        {{- if eq $component "gateway" }}
        - {name: otlp-grpc, containerPort: 4317}
        - {name: otlp-http, containerPort: 4318}
        {{- end }}
        - {name: admin, containerPort: 9464}
      # The admin port opens before anything is connected: whoever does not answer there is stuck.
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      # Not ready while the bus is away, or a backend refuses the sender.
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 3
      {{- if eq $component "gateway" }}
      lifecycle:
        # Until everybody knows that this pod is no endpoint any more; there is no shell in the image.
        preStop: {sleep: {seconds: {{ $values.preStopSleepSeconds }}}}
      {{- end }}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        {{- toYaml $disk.mounts | nindent 8 }}
  volumes:
    {{- toYaml $disk.volumes | nindent 4 }}
  {{- with $values.nodeSelector | default $root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations | default $root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity | default $root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if not (has $component (list "logs" "topics")) }}
  # One zone, or one node, does not take all replicas along where there is another one.
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: {matchLabels: {{ include "afflux.componentSelector" $selector | fromYaml | toJson }}}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
{{- end }}
