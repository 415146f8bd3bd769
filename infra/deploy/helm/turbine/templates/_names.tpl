{{- define "turbine.name" -}}
{{- if contains .Chart.Name .Release.Name -}}{{ .Release.Name }}{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name }}{{- end -}}
{{- end -}}

{{/* Labels by which the pods of a part are found: (dict "root" $ "part" "edge"). */}}
{{- define "turbine.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{/* A selector of all pods of the release. */}}
{{- define "turbine.releasePods" -}}
matchLabels:
  app.kubernetes.io/name: {{ .Chart.Name }}
  app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "turbine.labels" -}}
{{ include "turbine.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "turbine.secretName" -}}
{{- .Values.secret.existing | default (include "turbine.name" .) -}}
{{- end -}}

{{- define "turbine.serviceAccountName" -}}
{{- .Values.serviceAccount.existing | default (include "turbine.name" .) -}}
{{- end -}}

{{/* The image of a part; `gpus` above 0 takes the one for CUDA. A digest wins over the tag. */}}
{{- define "turbine.image" -}}
{{- $image := .root.Values.image -}}
{{- $tag := $image.tag | default .root.Chart.AppVersion -}}
{{- $digest := $image.digest -}}
{{- if gt (int .gpus) 0 -}}
{{- $tag = $image.cudaTag | default (printf "%s-cuda" $tag) -}}
{{- $digest = $image.cudaDigest -}}
{{- end -}}
{{- if $digest }}{{ printf "%s@%s" $image.repository $digest }}{{ else }}{{ printf "%s:%s" $image.repository $tag }}{{ end -}}
{{- end -}}

{{/*
Processors of each model: a list of (dict "where" VALUES "name" SUFFIX "id" MODEL "processor" VALUES "batchProcessor" VALUES). What a
model does not say is as for `processor`, what `batchProcessor` does not say is as for the model's `processor`. Without `models`
there is one, whose id is empty: its jobs are in the topics that are shared.
*/}}
{{- define "turbine.fleets" -}}
{{- $fleets := list -}}
{{- range $index, $model := .Values.models | default (list (dict)) -}}
{{- $batch := mustMergeOverwrite (mustDeepCopy $.Values.batchProcessor) (mustDeepCopy ($model.batchProcessor | default dict)) -}}
{{- $processor := mustMergeOverwrite (mustDeepCopy $.Values.processor) (omit (mustDeepCopy $model) "batchProcessor") -}}
{{- if $.Values.models -}}{{- $_ := set $processor "model" (mustMergeOverwrite (dict "path" "" "pull" "" "revision" "main" "claim" $.Values.processor.model.claim) (mustDeepCopy $model.model)) -}}{{- end -}}
{{- $id := ternary (base (include "turbine.modelPath" $processor.model)) "" (not (empty $.Values.models)) -}}
{{- $fleets = append $fleets (dict
  "where" (ternary (printf "models[%d]." $index) "" (not (empty $.Values.models)))
  "name" (ternary (include "turbine.modelName" $id) "" (ne $id ""))
  "id" $id
  "processor" $processor
  "batchProcessor" (mustMergeOverwrite (mustDeepCopy $processor) $batch (dict "lanes" "batch"))
) -}}
{{- end -}}
{{- $fleets | toYaml -}}
{{- end -}}

{{/* A model in names of objects, which are short and lower-case. */}}
{{- define "turbine.modelName" -}}
{{- printf "%s-%s" (regexReplaceAll "[^a-z0-9]+" (lower .) "-" | trunc 16 | trimAll "-") (sha256sum . | trunc 6) | trimPrefix "-" -}}
{{- end -}}

{{/* A model in names of its topics: as edge/contract/topics.ts makes them. */}}
{{- define "turbine.topicName" -}}
{{- printf "%s-%s" (regexReplaceAll "[^A-Za-z0-9]+" . "-" | trimAll "-" | trunc 80) (sha256sum . | trunc 12) | trimPrefix "-" -}}
{{- end -}}
