import { expect } from 'vitest'
import { nodeDecoders } from '../infra/compression/node-decoders.ts'
import { FairBudget } from '../infra/fair-budget.ts'
import { createImageSource } from '../infra/fetch/image-source.ts'
import { memoryStore } from '../infra/store/memory.fixture.ts'
import type { StreamRecord } from '../infra/stream/stream.ts'
import { createCaption } from './api/captions/routes.ts'
import { createApp } from './app.ts'
import { type FinishedCaption, maxBodyBytes } from './contract/caption.ts'
import type { ErrorBody } from './contract/errors.ts'
import type { ModelSummary } from './contract/model.ts'
import { defaultTenant } from './contract/tenant.ts'
import type { EdgeDeps, RequestSample } from './deps.ts'
import { createBodyMemory } from './guard/body-memory.ts'

type Body = NonNullable<RequestInit['body']>

/** The smallest thing that passes for an image at the edge: a PNG's signature and header chunk. */
export function pngHeader(width = 8, height = 8): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(33)
  bytes.set([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52])
  const view = new DataView(bytes.buffer)
  view.setUint32(16, width)
  view.setUint32(20, height)
  return bytes
}

export const starter: ModelSummary = {
  id: 'starter',
  object: 'model',
  created: 1_790_000_000,
  owned_by: 'turbine',
  turbine: {
    image_size: 224,
    device: 'cpu',
    tokens_in: 197,
    prune_levels: [{ level: 0, prune_ratio: 0, tokens_out: 197 }],
  },
}

export const completed = (id: string): FinishedCaption => ({
  id,
  object: 'caption',
  status: 'completed',
  created: 1_790_000_000,
  caption: 'a red square',
  turbine: {
    prune_level: 0,
    prune_ratio: 0,
    tokens_in: 197,
    tokens_out: 197,
    output_tokens: 3,
    queue_ms: 1,
    inference_ms: 20,
    model: 'starter',
  },
})

export const failed = (id: string): FinishedCaption => ({
  id,
  object: 'caption',
  status: 'failed',
  created: 1_790_000_000,
  http_status: 400,
  error: {
    message: 'The image is cut off.',
    type: 'invalid_request_error',
    param: null,
    code: 'image_invalid',
  },
})

/** A whole edge on fakes: by default every request is answered at once with a completed caption. */
export function fakeEdge(overrides: Partial<EdgeDeps> = {}) {
  const sent: { topic: string; record: StreamRecord }[] = []
  const samples: RequestSample[] = []
  const logged: { level: string; fields: Record<string, unknown>; message: string }[] = []
  const waits: number[] = []
  const { objects, store } = memoryStore()
  let ids = 0
  const deps: EdgeDeps = {
    stream: {
      // What is sent is the sender's, who frees it.
      send: async (topic, records) =>
        void sent.push(
          ...records.map((record) => ({ topic, record: { ...record, value: record.value.slice() } })),
        ),
    },
    store,
    mailbox: {
      deliver: () => false,
      show: () => 'unwanted',
      open: (id) => ({
        replyTo: `test:${id}`,
        wait: async (ms) => {
          waits.push(ms)
          return completed(id)
        },
        close: () => {},
      }),
    },
    accounts: {
      configured: async () => false,
      tenantOfKey: async () => undefined,
      knows: () => false,
      defaultTenant: async () => defaultTenant,
    },
    limiter: {
      count: async () => ({ granted: true }),
      enter: async () => ({ granted: true, release: () => {} }),
    },
    bodies: {
      memory: createBodyMemory({ bytes: 2 ** 30, waitMs: 0 }),
      minRate: 4096,
      streamBytes: 2 ** 20,
      decoders: nodeDecoders,
    },
    models: () => [starter],
    reading: {},
    roomIn: () => 0,
    readiness: () => ({ ready: true, checks: { model: { ok: true } } }),
    metrics: {
      observe: (sample) => void samples.push(sample),
      render: async () => 'turbine_up 1\n',
      contentType: 'text/plain; version=0.0.4; charset=utf-8',
    },
    images: createImageSource({
      fetch: async () => new Response(pngHeader(), { headers: { 'content-type': 'image/png' } }),
      maxBytes: maxBodyBytes,
      buckets: overrides.buckets,
    }),
    downloads: {
      stores: { store: overrides.store ?? store, buckets: overrides.buckets },
      places: new FairBudget({ size: 8, perOwner: 4 }),
      stallMs: 60_000,
    },
    now: () => 1_790_000_000_000,
    newId: () => String(++ids),
    log: {
      warn: (fields, message) => void logged.push({ level: 'warn', fields, message }),
      error: (fields, message) => void logged.push({ level: 'error', fields, message }),
    },
    sloMs: 500,
    version: '0.0.0',
    ...overrides,
  }
  return { app: createApp(deps), deps, sent, samples, logged, objects, waits }
}

/** A mailbox whose callers wait in vain. */
export const emptyMailbox: EdgeDeps['mailbox'] = {
  deliver: () => false,
  show: () => 'unwanted',
  open: (id) => ({ replyTo: `test:${id}`, wait: async () => undefined, close: () => {} }),
}

/** A mailbox that answers with what `finish` makes of the request's id. */
export const mailboxWith = (finish: (id: string) => FinishedCaption): EdgeDeps['mailbox'] => ({
  deliver: () => false,
  show: () => 'unwanted',
  open: (id) => ({ replyTo: `test:${id}`, wait: async () => finish(id), close: () => {} }),
})

export const rawRequest = (body: Body, headers: Record<string, string> = {}): RequestInit => ({
  method: 'POST',
  body,
  headers: { 'content-type': 'image/png', ...headers },
})

export const jsonRequest = (value: unknown, headers: Record<string, string> = {}): RequestInit =>
  rawRequest(typeof value === 'string' ? value : JSON.stringify(value), {
    'content-type': 'application/json',
    ...headers,
  })

const documented = new Set([...Object.keys(createCaption.responses).map(Number), 499])

/** Posts to `/v1/captions`, and checks by the way that the answer's status is one of those that are documented. */
export async function post(edge: ReturnType<typeof fakeEdge>, init: RequestInit, query = '') {
  const response = await edge.app.request(`/v1/captions${query}`, init)
  expect(documented).toContain(response.status)
  return response
}

/** The error that an answer carries. */
export async function errorOf(response: Response): Promise<ErrorBody['error']> {
  return ((await response.json()) as ErrorBody).error
}
