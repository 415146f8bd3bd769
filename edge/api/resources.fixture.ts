import { expect } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { fakeEdge } from '../app.fixture.ts'
import type { StoredFile } from '../contract/file.ts'
import { keys } from '../contract/keys.ts'
import type { Tenant } from '../contract/tenant.ts'
import type { EdgeDeps } from '../deps.ts'

/** Seconds at which a test's clock starts. */
export const startSeconds = 1_790_000_000

export interface Call {
  /** A string is sent as it is. */
  json?: unknown
  body?: RequestInit['body']
  headers?: Record<string, string>
  /** API key; the tenant of the same name. Default: `default`. */
  tenant?: string
}

/** An edge with tenants, buckets and a clock that is turned by hand. An API key is its tenant's name. */
export function resourceEdge(overrides: Partial<EdgeDeps> = {}, tenants: Tenant[] = []) {
  let time = startSeconds * 1000
  const buckets = new Map<string, ReturnType<typeof memoryStore>>()
  const bucket = (name: string) => {
    const made = buckets.get(name) ?? memoryStore({ asBucket: true })
    buckets.set(name, made)
    return made
  }
  const known = (id: string): Tenant =>
    tenants.find((tenant) => tenant.id === id) ?? { id, grants: [], limits: {} }
  const edge = fakeEdge({
    now: () => time,
    buckets: (name) => bucket(name).store,
    accounts: {
      configured: async () => true,
      tenantOfKey: async (key) => known(key),
      knows: () => true,
      defaultTenant: async () => known('default'),
    },
    ...overrides,
  })

  /** Calls the app, and checks by the way that the answer's status is one of those that are documented. */
  async function call(method: string, path: string, { json, body, headers, tenant = 'default' }: Call = {}) {
    const response = await edge.app.request(path, {
      method,
      body: json === undefined ? body : textOf(json),
      headers: {
        authorization: `Bearer ${tenant}`,
        ...(json === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      duplex: 'half',
    } as RequestInit)
    expect(documentedStatuses(edge.app, method, path)).toContain(response.status)
    return response
  }

  return {
    ...edge,
    bucket,
    call,
    later(seconds: number) {
      time += seconds * 1000
    },
    /** Uploads a file of this text and answers with its id. */
    async upload(text: string, tenant?: string): Promise<string> {
      const response = await call('POST', '/v1/files', { ...(await batchForm(text)), tenant })
      return ((await response.json()) as { id: string }).id
    },
    /** Keys of the objects that are no claims of idempotency keys. */
    kept: () => edge.objects.keys().filter((key) => !key.startsWith('idempotency/')),
    /** A file that the service wrote itself. */
    async keepOutput(tenant: string, stored: StoredFile) {
      await edge.deps.store.put(keys.file(tenant, stored.file.id), JSON.stringify(stored))
    },
  }
}

const textOf = (json: unknown) => (typeof json === 'string' ? json : JSON.stringify(json))

type App = ReturnType<typeof fakeEdge>['app']

function documentedStatuses(app: App, method: string, path: string): number[] {
  const { pathname } = new URL(path, 'http://localhost')
  const routes = app.openAPIRegistry.definitions.flatMap((definition) =>
    definition.type === 'route' ? [definition.route] : [],
  )
  const route = routes.find(
    (candidate) =>
      candidate.method === method.toLowerCase().replace('head', 'get') &&
      new RegExp(`^${candidate.path.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(pathname),
  )
  return Object.keys(route?.responses ?? {}).map(Number)
}

/** A form as the bytes and headers that a client sends. */
export async function formBody(
  form: FormData,
): Promise<{ body: Uint8Array<ArrayBuffer>; headers: Record<string, string> }> {
  const encoded = new Response(form)
  const headers = { 'content-type': encoded.headers.get('content-type')! }
  return { body: new Uint8Array(await encoded.arrayBuffer()), headers }
}

/** The form of `POST /v1/files`; fields that are undefined are left out. */
export function batchForm(text: string, fields: Record<string, string | undefined> = {}) {
  const form = new FormData()
  form.append('file', new File([text], 'images.jsonl'))
  for (const [name, value] of Object.entries({ purpose: 'batch', ...fields }))
    if (value !== undefined) form.append(name, value)
  return formBody(form)
}

/** May read one prefix and write another. */
export const bucketTenant: Tenant = {
  id: 'default',
  grants: [
    { uri: 's3://photos/mine/', access: 'read' },
    { uri: 's3://results/mine/', access: 'write' },
  ],
  limits: {},
}

/** A batch of an uploaded file. */
export const fromFile = (input_file_id: string) => ({
  input_file_id,
  endpoint: '/v1/chat/completions',
  completion_window: '24h',
})

/** A batch of what `bucketTenant` may read. */
export const fromBucket = {
  endpoint: '/v1/captions',
  completion_window: '15m',
  turbine: { input_uri: 's3://photos/mine/', output_uri: 's3://results/mine/run/', max_prune: 0.5 },
}
