{{/* Where a processor's model lies. */}}
{{- define "turbine.modelPath" -}}
{{- if .path }}{{ .path }}{{ else if .pull }}/data/models/{{ .pull | replace "/" "--" }}{{ end -}}
{{- end -}}

{{/* `cuda:0,1` for two GPUs. */}}
{{- define "turbine.device" -}}
{{- if gt (int .gpus) 0 }}cuda:{{ untilStep 0 (int .gpus) 1 | join "," }}{{ else }}cpu{{ end -}}
{{- end -}}

{{/* What a processor is asked for, its GPUs included. */}}
{{- define "turbine.processorResources" -}}
{{- $resources := mustDeepCopy .resources -}}
{{- if gt (int .gpus) 0 -}}
{{- $_ := set $resources "limits" (merge (dict .gpuResource (int .gpus)) ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* A Deployment of processors: (dict "root" $ "part" NAME "values" VALUES). */}}
{{- define "turbine.processor" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $name := printf "%s-%s" (include "turbine.name" $root) .part -}}
{{- $image := include "turbine.image" (dict "root" $root "gpus" $values.gpus) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels: {{- include "turbine.labels" . | nindent 4 }}
spec:
  {{- if not $root.Values.keda.enabled }}
  replicas: {{ $values.replicas.min }}
  {{- end }}
  selector:
    matchLabels: {{- include "turbine.selector" . | nindent 6 }}
  strategy:
    rollingUpdate: {{- toYaml $values.rollingUpdate | nindent 6 }}
  template:
    metadata: {{- include "turbine.podMetadata" . | nindent 6 }}
    spec:
      serviceAccountName: {{ include "turbine.serviceAccountName" $root }}
      {{- include "turbine.podSecurity" $root | nindent 6 }}
      {{- with $values.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      # SIGTERM leaves the groups after the batch in hand; who takes over goes on with the rest.
      terminationGracePeriodSeconds: {{ include "turbine.graceSeconds" $root }}
      {{- if $values.model.pull }}
      initContainers:
        - name: pull-model
          image: {{ $image }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [models, pull, {{ $values.model.pull }}, --revision, {{ $values.model.revision | quote }}]
          env:
            - name: HF_TOKEN
              valueFrom:
                secretKeyRef: { name: {{ include "turbine.secretName" $root }}, key: HF_TOKEN, optional: true }
          resources:
            requests: { cpu: 250m, memory: 512Mi }
            limits: { memory: 1Gi }
          {{- include "turbine.containerSecurity" $root | nindent 10 }}
          volumeMounts: {{- include "turbine.mounts" $root | nindent 12 }}
      {{- end }}
      containers:
        - name: processor
          image: {{ $image }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [processor]
          env:
            - { name: TURBINE_LANES, value: {{ $values.lanes }} }
            - { name: TURBINE_DEVICE, value: {{ include "turbine.device" $values | quote }} }
            # All cores would be those of the node.
            - name: TURBINE_INTRA_OP_THREADS
              valueFrom: { resourceFieldRef: { containerName: processor, resource: limits.cpu } }
            {{- with include "turbine.modelPath" $values.model }}
            - { name: TURBINE_MODEL, value: {{ . | quote }} }
            {{- end }}
            {{- include "turbine.environment" (dict "root" $root "env" $values.env) | nindent 12 }}
          resources: {{- include "turbine.processorResources" $values | nindent 12 }}
          {{- include "turbine.containerSecurity" $root | nindent 10 }}
          ports:
            - { name: operations, containerPort: {{ int $root.Values.operationsPort }} }
          {{- include "turbine.probes" $root | nindent 10 }}
          volumeMounts:
            {{- include "turbine.mounts" $root | nindent 12 }}
            {{- if $values.model.claim }}
            - { name: models, mountPath: /models, readOnly: true }
            {{- end }}
      volumes:
        {{- include "turbine.volumes" (dict "root" $root "secretName" (include "turbine.secretName" $root)) | nindent 8 }}
        {{- with $values.model.claim }}
        - { name: models, persistentVolumeClaim: { claimName: {{ . }}, readOnly: true } }
        {{- end }}
      {{- with include "turbine.placement" $values | trim }}{{ . | nindent 6 }}{{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels: {{- include "turbine.labels" . | nindent 4 }}
spec:
  maxUnavailable: 25%
  selector:
    matchLabels: {{- include "turbine.selector" . | nindent 6 }}
{{- end -}}
