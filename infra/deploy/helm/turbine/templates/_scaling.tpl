{{/*
How KEDA scales a Deployment of processors: (dict "root" $ "part" NAME "lane" LANE "id" MODEL "values" VALUES). The most that a
trigger asks for holds. KEDA leaves the metric of a trigger undivided by the replicas that are there (AverageValue), so a
threshold of 1 makes turbine_desired_replicas, rounded up, the number of replicas.
*/}}
{{- define "turbine.scaledObject" -}}
{{- $keda := .root.Values.keda -}}
{{- $kafka := .root.Values.kafka -}}
{{- $scaling := .values.scaling -}}
{{- $name := include "turbine.name" .root -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ printf "%s-%s" $name .part }}
  labels: {{- include "turbine.labels" . | nindent 4 }}
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: {{ printf "%s-%s" $name .part }} }
  minReplicaCount: {{ .values.replicas.min }}
  maxReplicaCount: {{ .values.replicas.max }}
  pollingInterval: {{ $keda.pollingSeconds }}
  # From the last sign of work to zero replicas; above one the policies below hold.
  cooldownPeriod: {{ $scaling.cooldownSeconds }}
  fallback:
    failureThreshold: {{ $keda.failureThreshold }}
    replicas: {{ $scaling.fallbackReplicas }}
    behavior: currentReplicasIfHigher
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {{- toYaml $scaling.behavior | nindent 8 }}
  triggers:
    - type: kafka
      name: lag
      metricType: AverageValue
      metadata:
        bootstrapServers: {{ $kafka.brokers | quote }}
        {{- with .id }}
        topic: turbine.{{ $.lane }}.{{ include "turbine.topicName" . }}
        consumerGroup: turbine-processor-{{ $.lane }}-{{ include "turbine.topicName" . }}
        {{- else }}
        topic: turbine.{{ .lane }}
        consumerGroup: turbine-processor-{{ .lane }}
        {{- end }}
        lagThreshold: {{ $scaling.lagThreshold | quote }}
        activationLagThreshold: '0'
        # Groups start at the first record.
        offsetResetPolicy: earliest
        version: {{ $kafka.kedaVersion | quote }}
      {{- if or $kafka.tls (ne $kafka.sasl "none") }}
      authenticationRef: { name: {{ $name }}-kafka }
      {{- end }}
    - type: prometheus
      name: desired-replicas
      metricType: AverageValue
      metadata:
        serverAddress: {{ $keda.prometheus | quote }}
        # Every process reports the whole fleet, so their values are not added.
        query: max(turbine_desired_replicas{lane="{{ .lane }}"{{ with .id }},model="{{ . }}"{{ end }}{{ with $keda.matchers }},{{ . }}{{ end }}})
        threshold: '1'
        # Work that is left keeps the last processor.
        activationThreshold: '0'
        # An unknown load is no load of 0: the fallback holds instead.
        ignoreNullValues: 'false'
        {{- with $keda.prometheusAuthModes }}
        authModes: {{ . | quote }}
        {{- end }}
      {{- with $keda.prometheusAuthentication }}
      authenticationRef: { name: {{ . }} }
      {{- end }}
{{- end -}}
