import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { drawPictures, type Picture } from './pictures.ts'
import { completedOf, postImage, type Service, startService } from './service.ts'
import { temporaryFolder } from './turbine.ts'

interface Span {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  startTimeUnixNano: string
  endTimeUnixNano: string
  links?: { traceId: string; spanId: string }[]
  status: { code?: number }
  service: string
}

/** What an OTLP exporter sends, of what is looked at here. */
interface TraceExport {
  resourceSpans: {
    resource: { attributes: { key: string; value: { stringValue?: string } }[] }
    scopeSpans: { spans: Omit<Span, 'service'>[] }[]
  }[]
}

const spans: Span[] = []
const collector = createServer(async (request, response) => {
  const { resourceSpans } = (await json(request)) as TraceExport
  for (const { resource, scopeSpans } of resourceSpans) {
    const service = resource.attributes.find(({ key }) => key === 'service.name')!.value.stringValue!
    for (const scope of scopeSpans) spans.push(...scope.spans.map((span) => ({ ...span, service })))
  }
  response.setHeader('content-type', 'application/json').end('{}')
})
let endpoint: string
let picture: Picture
beforeAll(async () => {
  await once(collector.listen(0, '127.0.0.1'), 'listening')
  endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
  picture = (await drawPictures(1))[0]!
})
afterAll(() => new Promise((closed) => collector.close(closed)))

/** Runs a service until all of its spans are here. */
async function traced(env: Record<string, string>, use: (service: Service) => Promise<unknown>) {
  spans.length = 0
  const service = await startService({
    dataDir: await temporaryFolder(),
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, ...env },
  })
  await use(service)
  service.turbine.kill('SIGTERM')
  expect((await service.turbine.exited).code).toBe(0)
}

const traceId = 'a'.repeat(32)
const callersSpan = 'b'.repeat(16)
const traceparent = `00-${traceId}-${callersSpan}-01`
const spanNamed = (name: string) => spans.find((span) => span.name === name)!

test("one caption is one connected trace over edge and processor, in its caller's", async () => {
  await traced({ OTEL_SERVICE_NAME: 'captions' }, async (service) =>
    completedOf(await postImage(service, picture.jpeg, { headers: { traceparent } })),
  )
  const mine = spans.filter((span) => span.traceId === traceId)
  const nameOf = (id: string | undefined) => mine.find(({ spanId }) => spanId === id)?.name ?? id
  expect(Object.fromEntries(mine.map(({ name, parentSpanId }) => [name, nameOf(parentSpanId)]))).toEqual({
    'POST /v1/captions': callersSpan,
    'send turbine.interactive': 'POST /v1/captions',
    'process turbine.interactive': 'send turbine.interactive',
    decode: 'process turbine.interactive',
    queue: 'process turbine.interactive',
    inference: 'process turbine.interactive',
    reply: 'process turbine.interactive',
  })
  for (const { service, startTimeUnixNano, endTimeUnixNano } of mine) {
    expect(service).toBe('captions')
    expect(BigInt(endTimeUnixNano) >= BigInt(startTimeUnixNano)).toBe(true)
  }
  expect(spanNamed('inference').startTimeUnixNano >= spanNamed('queue').endTimeUnixNano).toBe(true)
})

test("a shard's trace links to the request that created its batch", async () => {
  await traced({}, async (service) => {
    const line = {
      custom_id: 'a',
      image_url: `data:image/jpeg;base64,${Buffer.from(picture.jpeg).toString('base64')}`,
    }
    const form = new FormData()
    form.set('purpose', 'batch')
    form.set('file', new Blob([JSON.stringify(line)]), 'work.jsonl')
    const file = await fetch(`${service.url}/v1/files`, { method: 'POST', body: form })
    const { id: input_file_id } = (await file.json()) as { id: string }
    const created = await fetch(`${service.url}/v1/batches`, {
      method: 'POST',
      headers: { traceparent, 'content-type': 'application/json' },
      body: JSON.stringify({ input_file_id, endpoint: '/v1/captions', completion_window: '24h' }),
    })
    const { id } = (await created.json()) as { id: string }
    const status = async () => (await fetch(`${service.url}/v1/batches/${id}`)).text()
    await expect.poll(status, { timeout: 20_000 }).toContain('"status":"completed"')
  })
  const { links, traceId: shards } = spanNamed('process turbine.batch')
  expect(links).toMatchObject([{ traceId, spanId: spanNamed('POST /v1/batches').spanId }])
  expect(shards).not.toBe(traceId)
})

test('what the caller does not sample is not exported, nor anything without a collector', async () => {
  const unsampled = { headers: { traceparent: traceparent.replace(/01$/, '00') } }
  await traced({}, async (service) => completedOf(await postImage(service, picture.jpeg, unsampled)))
  expect(spans.filter((span) => span.traceId === traceId)).toEqual([])
  await traced({ OTEL_EXPORTER_OTLP_ENDPOINT: '' }, async (service) =>
    completedOf(await postImage(service, picture.jpeg, { headers: { traceparent } })),
  )
  expect(spans).toEqual([])
})

test('a collector that is away holds up neither a caption nor the end', async () => {
  const away = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }
  let stoppedAt = 0
  await traced(away, async (service) => {
    await completedOf(await postImage(service, picture.jpeg))
    stoppedAt = performance.now()
  })
  expect(performance.now() - stoppedAt).toBeLessThan(8_000)
})
