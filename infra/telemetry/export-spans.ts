import { setTimeout as delay } from 'node:timers/promises'
import { context, DiagLogLevel, diag, trace } from '@opentelemetry/api'
import type { Logger } from './log.ts'

/** For what is left when the process ends, ms: a collector that is away does not hold it up. */
const lastExportMs = 2_000

/**
 * Exports the spans of this process by OTLP over HTTP, where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector; else
 * nothing is loaded. Takes OpenTelemetry's own variables: endpoint, headers, timeout and compression of the exporter,
 * `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and its argument, `OTEL_SDK_DISABLED`.
 * @returns sends what is left and stops
 */
export async function exportSpans(
  { name, version }: { name: string; version: string },
  log: Pick<Logger, 'warn'>,
): Promise<() => Promise<void>> {
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
  const named = resourceFromAttributes({ 'service.name': name, 'service.version': version })
  const provider = new sdk.TracerProvider({
    resource: named.merge(detectResources({ detectors: [envDetector] })),
    sampler: samplerOf(sdk, env.OTEL_TRACES_SAMPLER, env.OTEL_TRACES_SAMPLER_ARG),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  })
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  trace.setGlobalTracerProvider(provider)
  const warn = (detail: string) => log.warn({ detail }, 'spans could not be exported')
  diag.setLogger({ error: warn, warn, info: warn, debug: warn, verbose: warn }, DiagLogLevel.WARN)
  return async () => {
    const stopped = provider
      .shutdown()
      .catch((err) => log.warn({ err }, 'the last spans could not be exported'))
    await Promise.race([stopped, delay(lastExportMs, undefined, { ref: false })])
  }
}

/** Shares of the traces that OpenTelemetry's samplers keep. */
const sampled: Record<string, number | undefined> = { always_on: 1, always_off: 0 }

/** The sampler by its name in OpenTelemetry's specification; default: what the caller's trace says, else all. */
function samplerOf(
  { ParentBasedSampler, TraceIdRatioBasedSampler }: Sdk,
  name = 'parentbased_always_on',
  ratio = '1',
) {
  const root = new TraceIdRatioBasedSampler(sampled[name.replace('parentbased_', '')] ?? Number(ratio))
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root
}

type Sdk = typeof import('@opentelemetry/sdk-trace')
