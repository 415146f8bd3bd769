{{/* What all pods have in common, in parts that the templates put together. */}}

{{- define "turbine.podMetadata" -}}
labels: {{- include "turbine.labels" . | nindent 2 }}
{{- with include "turbine.podAnnotations" . | trim }}
annotations: {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "turbine.podAnnotations" -}}
{{- if not .root.Values.secret.existing }}
# A changed Secret starts the pods anew.
checksum/secret: {{ toJson .root.Values.secret.values | sha256sum }}
{{- end }}
{{- if .root.Values.monitoring.annotations }}
prometheus.io/scrape: 'true'
prometheus.io/port: {{ int .root.Values.operationsPort | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- with .values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Nobody needs root, nor Kubernetes' API. */}}
{{- define "turbine.podSecurity" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "turbine.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end -}}

{{- define "turbine.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A processor is started when it has loaded its model and measured its device. */}}
{{- define "turbine.probes" -}}
startupProbe:
  httpGet: { path: /health/live, port: operations }
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /health/live, port: operations }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /health/ready, port: operations }
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{- define "turbine.mounts" -}}
- { name: temporary, mountPath: /tmp }
- { name: data, mountPath: /data }
{{- if .Values.kafka.privateAuthority }}
- { name: kafka-authority, mountPath: /etc/kafka-authority, readOnly: true }
{{- end }}
{{- end -}}

{{/* (dict "root" $ "secretName" NAME) */}}
{{- define "turbine.volumes" -}}
# A pod that fills them is evicted, and not its node's disk filled.
- { name: temporary, emptyDir: { sizeLimit: {{ .root.Values.volumes.temporary }} } }
- { name: data, emptyDir: { sizeLimit: {{ .root.Values.volumes.data }} } }
{{- if .root.Values.kafka.privateAuthority }}
- name: kafka-authority
  secret:
    secretName: {{ .secretName }}
    items: [{ key: KAFKA_CA, path: ca.pem }]
{{- end }}
{{- end -}}

{{/* Seconds from the beginning of a pod's end to SIGKILL: those that it drains for, and some to close connections. */}}
{{- define "turbine.graceSeconds" -}}
{{- add (int .Values.shutdownSeconds) 15 -}}
{{- end -}}
