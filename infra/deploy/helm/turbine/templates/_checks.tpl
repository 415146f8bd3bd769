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
{{- $remedy := "Lower it, or raise kafka.partitions (a topic that exists: kafka-topics.sh --alter)." -}}
{{- $ids := dict -}}
{{- range include "turbine.fleets" . | fromYamlArray -}}
{{- $processor := .processor -}}
{{- $batch := .batchProcessor -}}
{{- $interactive := ternary .where "processor." (ne .where "") -}}
{{- $batches := printf "%sbatchProcessor." .where -}}
{{- $interactiveMax := int $processor.replicas.max -}}
{{- $batchMax := ternary (int $batch.replicas.max) 0 $batch.enabled -}}
{{- if and (ne .where "") (or (eq .id "") (eq .id ".")) -}}
{{- fail (printf "%smodel names no model: set path, the folder of one, or pull." .where) -}}
{{- end -}}
{{- if hasKey $ids .id -}}
{{- fail (printf "%smodel is \"%s\", which another one is too: the last part of path is the id of a model." .where .id) -}}
{{- end -}}
{{- $_ := set $ids .id true -}}
{{- if gt $interactiveMax $partitions -}}
{{- fail (printf "%sreplicas.max is %d, but topics have %d partitions, and no more processors share a lane. %s" $interactive $interactiveMax $partitions $remedy) -}}
{{- end -}}
{{- if gt $batchMax $partitions -}}
{{- fail (printf "%sreplicas.max is %d, but topics have %d partitions, and no more processors share a lane. %s" $batches $batchMax $partitions $remedy) -}}
{{- end -}}
{{- if and (eq $processor.lanes "both") (gt (add $interactiveMax $batchMax) $partitions) -}}
{{- fail (printf "%sreplicas.max and %sreplicas.max are %d together, but topics have %d partitions, and with processor.lanes=both they share the batch lane. %s" $interactive $batches (add $interactiveMax $batchMax) $partitions $remedy) -}}
{{- end -}}
{{- range $part, $replicas := dict $interactive $processor.replicas $batches $batch.replicas "edge." $.Values.edge.replicas -}}
{{- if gt (int $replicas.min) (int $replicas.max) -}}
{{- fail (printf "%sreplicas.min is %d, more than max, which is %d." $part (int $replicas.min) (int $replicas.max)) -}}
{{- end -}}
{{- end -}}
{{- if and (ne $processor.lanes "both") (eq $batchMax 0) -}}
{{- fail (printf "Nobody would take batches: set %slanes=both, or %senabled=true." $interactive $batches) -}}
{{- end -}}
{{- if and (not $.Values.keda.enabled) (ne $processor.lanes "both") (eq (int $batch.replicas.min) 0) -}}
{{- fail (printf "Nobody would start processors for batches: set keda.enabled=true, or %sreplicas.min above 0." $batches) -}}
{{- end -}}
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
{{- range $index, $model := .Values.models -}}
{{- $_ := set $given (printf "models[%d].env" $index) ($model.env | default dict) -}}
{{- $_ := set $given (printf "models[%d].batchProcessor.env" $index) (($model.batchProcessor | default dict).env | default dict) -}}
{{- end -}}
{{- range $where, $env := $given -}}
{{- range $name, $_ := $env -}}
{{- with get $made $name }}{{ fail (printf "%s.%s is made by the value %s: set that instead." $where $name .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
