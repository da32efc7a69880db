{{/* What all templates say alike. A service's part is called with (dict "root" $ "service" "edge"). */}}

{{- define "onward.name" -}}
{{ printf "%s-%s" .root.Release.Name .service | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "onward.selector" -}}
app.kubernetes.io/name: onward
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{- define "onward.labels" -}}
{{ include "onward.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* The port of gRPC by which members reach the service. */}}
{{- define "onward.port" -}}
{{ get (dict "edge" "7400" "coordinator" "7100" "presence" "7200" "notifier" "7300") .service }}
{{- end }}

{{/* Where a pod of a StatefulSet is reached under its own name. */}}
{{- define "onward.advertised" -}}
$(POD_NAME).{{ include "onward.name" . }}.{{ .root.Release.Namespace }}.svc:{{ include "onward.port" . }}
{{- end }}

{{- define "onward.plugins" -}}
{{- $own := .Values.presence.plugins -}}
{{- if .Values.notifier.replicas -}}
{{- $own = append $own (printf "%s.%s.svc:7300" (include "onward.name" (dict "root" . "service" "notifier")) .Release.Namespace) -}}
{{- end -}}
{{ join "," $own }}
{{- end }}

{{/* Variables that every service has. */}}
{{- define "onward.shared" -}}
{{- $upper := upper .service -}}
{{- $values := .root.Values -}}
- name: ONWARD_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ $values.secretName }}
      key: secret
      optional: {{ ne $values.tls.secret "" }}
- name: ONWARD_METRICS_HOST
  value: 0.0.0.0
- name: ONWARD_{{ $upper }}_METRICS_PORT
  value: "9100"
- name: ONWARD_{{ $upper }}_DRAIN_S
  value: {{ (get $values .service).drainSeconds | quote }}
{{- if ne .service "notifier" }}
- name: ONWARD_ETCD
  value: {{ join "," $values.etcd.endpoints | required "etcd.endpoints: name host:port of each member of etcd" | quote }}
{{- if $values.etcd.tlsSecret }}
- name: ONWARD_ETCD_CA_FILE
  value: /etc/onward/etcd/ca.crt
{{- if $values.etcd.clientCertificate }}
- name: ONWARD_ETCD_CERT_FILE
  value: /etc/onward/etcd/tls.crt
- name: ONWARD_ETCD_KEY_FILE
  value: /etc/onward/etcd/tls.key
{{- end }}
{{- end }}
{{- if $values.etcd.user }}
- name: ONWARD_ETCD_USER
  value: {{ $values.etcd.user | quote }}
- name: ONWARD_ETCD_PASSWORD_FILE
  value: /etc/onward/etcd-password/password
{{- end }}
{{- end }}
{{- if $values.tls.secret }}
- name: ONWARD_{{ $upper }}_TLS_CA_FILE
  value: /etc/onward/tls/ca.crt
- name: ONWARD_{{ $upper }}_TLS_CERT_FILE
  value: /etc/onward/tls/tls.crt
- name: ONWARD_{{ $upper }}_TLS_KEY_FILE
  value: /etc/onward/tls/tls.key
- name: ONWARD_{{ $upper }}_TLS_NAME
  value: {{ $values.tls.name | quote }}
{{- end }}
{{- range $name, $value := merge (dict) (get $values .service).settings $values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "onward.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .root.Values.tls.secret }}
- name: tls
  mountPath: /etc/onward/tls
  readOnly: true
{{- end }}
{{- if ne .service "notifier" }}
{{- if .root.Values.etcd.tlsSecret }}
- name: etcd
  mountPath: /etc/onward/etcd
  readOnly: true
{{- end }}
{{- if .root.Values.etcd.user }}
- name: etcd-password
  mountPath: /etc/onward/etcd-password
  readOnly: true
{{- end }}
{{- end }}
{{- if and (eq .service "notifier") .root.Values.notifier.secretName }}
- name: channels
  mountPath: /etc/onward/channels
  readOnly: true
{{- end }}
{{- end }}

{{- define "onward.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if .root.Values.tls.secret }}
- name: tls
  secret: {secretName: {{ .root.Values.tls.secret }}, defaultMode: 0440}
{{- end }}
{{- if ne .service "notifier" }}
{{- if .root.Values.etcd.tlsSecret }}
- name: etcd
  secret: {secretName: {{ .root.Values.etcd.tlsSecret }}, defaultMode: 0440}
{{- end }}
{{- if .root.Values.etcd.user }}
- name: etcd-password
  secret: {secretName: {{ required "etcd.passwordSecret: name the Secret with etcd.user's password" .root.Values.etcd.passwordSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- if and (eq .service "notifier") .root.Values.notifier.secretName }}
- name: channels
  secret: {secretName: {{ .root.Values.notifier.secretName }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* The container's part that is the same for all: image, confinement, probes but the edge's. */}}
{{- define "onward.container" -}}
image: {{ printf "%s-%s:%s" .root.Values.image.repository .service (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- toYaml (get .root.Values .service).resources | nindent 2 }}
volumeMounts: {{- include "onward.mounts" . | nindent 2 }}
{{- end }}

{{/* gRPC health, asked with the pod's own certificate or secret: Kubernetes' probe can show neither. */}}
{{- define "onward.probes" -}}
{{- $probe := list "python" "-P" "-m" "services.chassis.probe" -}}
startupProbe:
  exec: {command: {{ append $probe "--alive" | toJson }}}
  periodSeconds: 3
  timeoutSeconds: 5
  failureThreshold: 40
livenessProbe:
  # Whether it answers, not whether it can work: starting it again would not bring etcd back.
  exec: {command: {{ append $probe "--alive" | toJson }}}
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}

{{/* The pod's part that is the same for all. */}}
{{- define "onward.pod" -}}
{{- $mine := get .root.Values .service -}}
# Kubernetes would set variables such as ONWARD_EDGE_PORT, which are no settings: a start refuses them.
enableServiceLinks: false
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with $mine.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $mine.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $mine.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "onward.selector" . | nindent 8 }}
volumes: {{- include "onward.volumes" . | nindent 2 }}
{{- end }}
