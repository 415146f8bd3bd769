import { context, trace } from '@opentelemetry/api'
import type { Sampler } from '@opentelemetry/sdk-trace'

/**
 * Exports the spans of this process by OTLP over HTTP, where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector; else
 * nothing is loaded. Takes OpenTelemetry's own variables: endpoint, headers, timeout and compression of the exporter,
 * `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and its argument, `OTEL_SDK_DISABLED`.
 * @returns sends what is left and stops
 */
export async function exportSpans(service: { name: string; version: string }): Promise<() => Promise<void>> {
  const { env } = process
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT
  if (!endpoint || env.OTEL_SDK_DISABLED === 'true') return async () => {}
  const [sdk, { OTLPTraceExporter }, resources, { AsyncLocalStorageContextManager }] = await Promise.all([
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/context-async-hooks'),
  ])
  const { detectResources, envDetector, resourceFromAttributes } = resources
  const named = resourceFromAttributes({ 'service.name': service.name, 'service.version': service.version })
  const provider = new sdk.TracerProvider({
    resource: named.merge(detectResources({ detectors: [envDetector] })),
    sampler: samplerOf(sdk, env.OTEL_TRACES_SAMPLER, env.OTEL_TRACES_SAMPLER_ARG),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  })
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  trace.setGlobalTracerProvider(provider)
  return () => provider.shutdown()
}

/** The sampler by its name in OpenTelemetry's specification; default: what the caller's trace says, else all. */
function samplerOf(
  { AlwaysOnSampler, AlwaysOffSampler, ParentBasedSampler, TraceIdRatioBasedSampler }: Sdk,
  name = 'parentbased_always_on',
  ratio = '1',
): Sampler {
  const samplers: Record<string, Sampler> = {
    always_on: new AlwaysOnSampler(),
    always_off: new AlwaysOffSampler(),
    traceidratio: new TraceIdRatioBasedSampler(Number(ratio)),
  }
  const root = samplers[name.replace(/^parentbased_/, '')] ?? samplers.always_on!
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root
}

type Sdk = typeof import('@opentelemetry/sdk-trace')
