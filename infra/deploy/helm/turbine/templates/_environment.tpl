{{/* How Kafka is reached: (dict "root" $ "secretName" NAME). */}}
{{- define "turbine.kafkaEnvironment" -}}
{{- $kafka := .root.Values.kafka -}}
- { name: KAFKA_BROKERS, value: {{ $kafka.brokers | quote }} }
- { name: TURBINE_PARTITIONS, value: {{ int $kafka.partitions | quote }} }
- { name: KAFKA_TLS, value: {{ ternary "on" "off" $kafka.tls | quote }} }
- { name: KAFKA_SASL, value: {{ $kafka.sasl }} }
{{- if ne $kafka.sasl "none" }}
{{ include "turbine.fromSecret" (dict "name" .secretName "keys" (list "KAFKA_USERNAME" "KAFKA_PASSWORD")) }}
{{- end }}
{{- if $kafka.privateAuthority }}
- { name: KAFKA_CA, value: /etc/kafka-authority/ca.pem }
{{- end }}
{{- end -}}

{{/* Variables from keys of the same name: (dict "name" SECRET "keys" LIST). */}}
{{- define "turbine.fromSecret" -}}
{{- $name := .name -}}
{{- range $index, $key := .keys }}
{{- if $index }}{{ "\n" }}{{ end -}}
- { name: {{ $key }}, valueFrom: { secretKeyRef: { name: {{ $name }}, key: {{ $key }} } } }
{{- end -}}
{{- end -}}

{{/* What every part of the fleet is told: (dict "root" $ "env" MAP); `env` is the part's own and wins. */}}
{{- define "turbine.environment" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $secretName := include "turbine.secretName" $root -}}
{{ include "turbine.kafkaEnvironment" (dict "root" $root "secretName" $secretName) }}
- { name: S3_BUCKET, value: {{ $values.s3.bucket | quote }} }
- { name: AWS_REGION, value: {{ $values.s3.region | quote }} }
{{- with $values.s3.endpoint }}
- { name: S3_ENDPOINT, value: {{ . | quote }} }
{{- end }}
{{- if eq $values.s3.credentials "secret" }}
{{ include "turbine.fromSecret" (dict "name" $secretName "keys" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) }}
{{- end }}
{{ include "turbine.fromSecret" (dict "name" $secretName "keys" (list "TURBINE_REPLY_SECRET")) }}
- { name: TURBINE_OPERATIONS_PORT, value: {{ int $values.operationsPort | quote }} }
- { name: TURBINE_SHUTDOWN_MS, value: {{ mul 1000 (int $values.shutdownSeconds) | quote }} }
{{- range $name, $value := mustMergeOverwrite (mustDeepCopy $values.env) .env }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end -}}
