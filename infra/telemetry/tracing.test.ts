import { context, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import fc from 'fast-check'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { createLogger } from './log.ts'
import { addSpan, inSpan, linkTo, traceparent } from './tracing.ts'

const given = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
const exporter = new InMemorySpanExporter()

function trackSpans() {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  trace.setGlobalTracerProvider(
    new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] }),
  )
}

/** The line that is logged now. */
function logged() {
  const lines: string[] = []
  createLogger({ format: 'json', destination: { write: (line) => void lines.push(line) } }).info('here')
  return JSON.parse(lines[0]!) as { trace_id?: string; span_id?: string }
}

beforeEach(() => exporter.reset())
afterAll(() => {
  context.disable()
  trace.disable()
})

test('without tracing work just runs, and a trace that came goes on', async () => {
  const inside = await inSpan('work', { parent: given }, async () => [
    traceparent(given),
    traceparent(),
    logged(),
  ])
  expect(inside).toEqual([given, undefined, expect.not.objectContaining({ trace_id: expect.anything() })])
})

test.each(['', 'x\ty', given.slice(1), `${given}0`])('%j is no trace parent', (malformed) => {
  expect(traceparent(malformed)).toBeUndefined()
})

test('any other text is dropped, and the same goes on', () => {
  const hex = fc.constantFrom(...'0123456789abcdefABCDEF-g')
  const nearly = fc
    .tuple(fc.string({ unit: hex, maxLength: 70 }), fc.nat(60))
    .map(([text, at]) => given.slice(0, at) + text)
  fc.assert(
    fc.property(fc.oneof(nearly, fc.string({ unit: 'binary' })), (text) => {
      expect([text, undefined]).toContain(traceparent(text))
      if (traceparent(text)) expect(text).toMatch(/^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/)
    }),
  )
})

test('spans lie in each other, in the trace that came, and links and log lines tell of them', async () => {
  trackSpans()
  const line = await inSpan('outer', { parent: given }, () =>
    inSpan('inner', {}, async () => {
      // A smaller time would count from the start of the process.
      addSpan('before', 1_790_000_001_000, 1_790_000_002_000)
      linkTo(`00-${'c'.repeat(32)}-${'d'.repeat(16)}-01`)
      linkTo('malformed')
      expect(traceparent(given)).toMatch(`00-${'a'.repeat(32)}-`)
      return logged()
    }),
  )
  const [before, inner, outer] = exporter.getFinishedSpans()
  expect(outer!.parentSpanContext!.spanId).toBe('b'.repeat(16))
  expect(inner!.parentSpanContext!.spanId).toBe(outer!.spanContext().spanId)
  expect(before!.parentSpanContext!.spanId).toBe(inner!.spanContext().spanId)
  expect([before!.startTime, before!.endTime]).toEqual([
    [1_790_000_001, 0],
    [1_790_000_002, 0],
  ])
  expect(inner!.links.map((link) => link.context.traceId)).toEqual(['c'.repeat(32)])
  expect(line).toMatchObject({ trace_id: 'a'.repeat(32), span_id: inner!.spanContext().spanId })
})

test('a span tells that its work failed', async () => {
  trackSpans()
  await expect(inSpan('work', { parent: '' }, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  expect(exporter.getFinishedSpans()).toMatchObject([
    { name: 'work', status: { code: 2, message: 'Error: no' } },
  ])
})
