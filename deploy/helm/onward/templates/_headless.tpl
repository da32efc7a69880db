{{/* The names of a service's pods, also of those that are not ready: members find one another in etcd
     and need each before it is. And the budget of disruptions. */}}
{{- define "onward.headless" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "onward.name" . }}
  labels: {{- include "onward.labels" . | nindent 4 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: {{ ne .service "notifier" }}
  selector: {{- include "onward.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ include "onward.port" . }}, targetPort: grpc}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "onward.name" . }}
  labels: {{- include "onward.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .root.Values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels: {{- include "onward.selector" . | nindent 6 }}
{{- end }}
