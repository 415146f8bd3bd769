{{/* What the schema of the values cannot say. Each failure names what to change. */}}
{{- define "turbine.check" -}}
{{- if not .Values.kafka.brokers }}{{ fail "kafka.brokers is not set: name the brokers, e.g. kafka:9092." }}{{ end -}}
{{- include "turbine.checkEnvironment" . -}}
{{- include "turbine.checkSecret" . -}}
{{- include "turbine.checkReplicas" . -}}
{{- end -}}

{{- define "turbine.checkSecret" -}}
{{- $kafka := .Values.kafka -}}
{{- if and $kafka.privateAuthority (not $kafka.tls) -}}
{{- fail "kafka.privateAuthority is true and kafka.tls is false: set kafka.tls=true, or kafka.privateAuthority=false." -}}
{{- end -}}
{{- if not .Values.secret.existing -}}
{{- $keys := list "TURBINE_REPLY_SECRET" -}}
{{- if ne $kafka.sasl "none" }}{{ $keys = concat $keys (list "KAFKA_USERNAME" "KAFKA_PASSWORD") }}{{ end -}}
{{- if $kafka.privateAuthority }}{{ $keys = append $keys "KAFKA_CA" }}{{ end -}}
{{- if eq .Values.s3.credentials "secret" }}{{ $keys = concat $keys (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY") }}{{ end -}}
{{- range $keys -}}
{{- if not (get $.Values.secret.values .) -}}
{{- fail (printf "%s is missing: set secret.values.%s, or name a Secret that has it in secret.existing." . .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "turbine.checkReplicas" -}}
{{- $partitions := int .Values.kafka.partitions -}}
{{- $processor := .Values.processor -}}
{{- $batch := include "turbine.batchProcessor" . | fromYaml -}}
{{- $interactiveMax := int $processor.replicas.max -}}
{{- $batchMax := ternary (int $batch.replicas.max) 0 .Values.batchProcessor.enabled -}}
{{- $remedy := "Lower it, or raise kafka.partitions (a topic that exists: kafka-topics.sh --alter)." -}}
{{- if gt $interactiveMax $partitions -}}
{{- fail (printf "processor.replicas.max is %d, but topics have %d partitions, and no more processors share a lane. %s" $interactiveMax $partitions $remedy) -}}
{{- end -}}
{{- if gt $batchMax $partitions -}}
{{- fail (printf "batchProcessor.replicas.max is %d, but topics have %d partitions, and no more processors share a lane. %s" $batchMax $partitions $remedy) -}}
{{- end -}}
{{- if and (eq $processor.lanes "both") (gt (add $interactiveMax $batchMax) $partitions) -}}
{{- fail (printf "processor.replicas.max and batchProcessor.replicas.max are %d together, but topics have %d partitions, and with processor.lanes=both they share the batch lane. %s" (add $interactiveMax $batchMax) $partitions $remedy) -}}
{{- end -}}
{{- range $part, $replicas := dict "processor" $processor.replicas "batchProcessor" $batch.replicas "edge" .Values.edge.replicas -}}
{{- if gt (int $replicas.min) (int $replicas.max) -}}
{{- fail (printf "%s.replicas.min is %d, more than max, which is %d." $part (int $replicas.min) (int $replicas.max)) -}}
{{- end -}}
{{- end -}}
{{- if and (ne $processor.lanes "both") (eq $batchMax 0) -}}
{{- fail "Nobody would take batches: set processor.lanes=both, or batchProcessor.enabled=true." -}}
{{- end -}}
{{- if and (not .Values.keda.enabled) (ne $processor.lanes "both") (eq (int $batch.replicas.min) 0) -}}
{{- fail "Nobody would start processors for batches: set keda.enabled=true, or batchProcessor.replicas.min above 0." -}}
{{- end -}}
{{- end -}}

{{/* What values make is not said a second time, where one of both would be ignored. */}}
{{- define "turbine.checkEnvironment" -}}
{{- $made := dict
  "KAFKA_BROKERS" "kafka.brokers" "KAFKA_TLS" "kafka.tls" "KAFKA_CA" "kafka.privateAuthority" "KAFKA_SASL" "kafka.sasl"
  "KAFKA_USERNAME" "secret" "KAFKA_PASSWORD" "secret" "S3_BUCKET" "s3.bucket" "S3_ENDPOINT" "s3.endpoint"
  "AWS_REGION" "s3.region" "AWS_ACCESS_KEY_ID" "secret" "AWS_SECRET_ACCESS_KEY" "secret"
  "TURBINE_REPLY_SECRET" "secret" "TURBINE_PARTITIONS" "kafka.partitions" "TURBINE_SHUTDOWN_MS" "shutdownSeconds" "TURBINE_OPERATIONS_PORT" "operationsPort"
  "TURBINE_LANES" "processor.lanes" "TURBINE_DEVICE" "processor.gpus" "TURBINE_MODEL" "processor.model"
  "TURBINE_INTRA_OP_THREADS" "processor.resources.limits.cpu"
-}}
{{- $given := dict "env" .Values.env "edge.env" .Values.edge.env "planner.env" .Values.planner.env
  "processor.env" .Values.processor.env "batchProcessor.env" (.Values.batchProcessor.env | default dict) -}}
{{- range $where, $env := $given -}}
{{- range $name, $_ := $env -}}
{{- with get $made $name }}{{ fail (printf "%s.%s is made by the value %s: set that instead." $where $name .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
