import {
  type Attributes,
  type Context,
  context,
  INVALID_SPAN_CONTEXT,
  type ProxyTracerProvider,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'

export { SpanKind }

const name = 'turbine'
const tracer = trace.getTracer(name)
const unrecorded = trace.wrapSpanContext(INVALID_SPAN_CONTEXT)

/** Whether spans go anywhere: most services trace nothing, and every request has several spans. */
const isTracing = () =>
  (trace.getTracerProvider() as ProxyTracerProvider).getDelegateTracer(name) !== undefined

export interface SpanOptions {
  /** Default: internal. */
  kind?: SpanKind
  /** The `traceparent` that came with the work; default: the span that is active. */
  parent?: string
  attributes?: Attributes
}

/** Runs work in a span that is active meanwhile; the span tells of its failure. Without tracing it just runs. */
export function inSpan<T>(
  name: string,
  { parent, ...options }: SpanOptions,
  work: (span: Span) => Promise<T>,
): Promise<T> {
  if (!isTracing()) return work(unrecorded)
  const around = parent === undefined ? context.active() : (remoteContext(parent) ?? ROOT_CONTEXT)
  return tracer.startActiveSpan(name, options, around, async (span) => {
    try {
      return await work(span)
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: String(error) })
      throw error
    } finally {
      span.end()
    }
  })
}

/** Adds a span to the active one for what is over already; `from` and `to` are unix ms. */
export function addSpan(name: string, from: number, to: number, attributes?: Attributes): void {
  if (isTracing()) tracer.startSpan(name, { startTime: from, attributes }).end(to)
}

/** Links the active span to another one that is not its parent. */
export function linkTo(traceparent: string | undefined): void {
  const linked = traceparent && trace.getSpanContext(remoteContext(traceparent) ?? ROOT_CONTEXT)
  if (linked) trace.getActiveSpan()?.addLink({ context: linked })
}

/**
 * The active span as W3C Trace Context writes it. Where nothing is traced `received` goes on, so that a caller's trace
 * is not cut here; a malformed one is dropped.
 */
export function traceparent(received?: string): string | undefined {
  const active = trace.getSpanContext(context.active())
  if (active)
    return `00-${active.traceId}-${active.spanId}-${active.traceFlags.toString(16).padStart(2, '0')}`
  return received !== undefined && remoteContext(received) ? received : undefined
}

/** Fields of a log line that name the trace it belongs to. */
export function traceFields(): { trace_id?: string; span_id?: string } {
  const active = trace.getSpanContext(context.active())
  return active ? { trace_id: active.traceId, span_id: active.spanId } : {}
}

function remoteContext(traceparent: string): Context | undefined {
  const [, traceId, spanId, flags] =
    /^[\da-f]{2}-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})$/.exec(traceparent) ?? []
  if (!traceId || !spanId || !flags) return undefined
  const traceFlags = Number.parseInt(flags, 16)
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true })
}
