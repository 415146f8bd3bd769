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

{{/* `batchProcessor`, with what is not said there taken from `processor`. */}}
{{- define "turbine.batchProcessor" -}}
{{- mustMergeOverwrite (mustDeepCopy .Values.processor) (mustDeepCopy .Values.batchProcessor) (dict "lanes" "batch") | toYaml -}}
{{- end -}}
