import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { errorOf, fakeEdge, jsonRequest, pngHeader, post } from '../../edge/app.fixture.ts'
import { keys } from '../../edge/contract/keys.ts'
import type { Tenant } from '../../edge/contract/tenant.ts'
import { HostPaces } from '../../infra/fetch/host-paces.ts'
import { readImageFile } from '../../infra/fetch/image-file.ts'
import type { ImageSource } from '../../infra/fetch/image-source.ts'
import { type NodeImageSourceOptions, openImageSource } from '../../infra/fetch/node.ts'
import { FingerprintSet } from '../../infra/fingerprint-set.ts'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { BucketUnavailableError, type ObjectStore } from '../../infra/store/store.ts'
import { createShardRunner } from '../../processor/batches/shard/runner.ts'
import { codeOf, decodeShard, shardOf } from '../../processor/batches/shard/shard.fixture.ts'
import type { FailureLine, OutputLine } from '../../processor/cli/caption/earlier-run.ts'
import type { JsonlOutput } from '../../processor/cli/caption/jsonl-output.ts'
import { createImageReader } from '../../processor/cli/caption/read-image.ts'
import { captionSources } from '../../processor/cli/caption/run.ts'
import { FakeCaptioner } from '../../processor/cli/captioner.fixture.ts'
import { newTotals } from '../../processor/cli/progress.ts'
import { preprocess } from '../../processor/engine/preprocess.ts'

const maxBytes = 1000

/** What the image server answers at each of its addresses. */
const answers: Record<string, RequestListener> = {
  '/gone': (_, response) => response.writeHead(404).end(),
  '/closed': (_, response) => response.writeHead(403).end(),
  '/broken': (_, response) => response.writeHead(500).end(),
  '/busy': (_, response) => response.writeHead(429, { 'retry-after': '60' }).end(),
  '/page': (_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
  '/circle': (_, response) => response.writeHead(302, { location: '/circle' }).end(),
  '/to-file': (_, response) => response.writeHead(302, { location: 'file:///etc/hostname' }).end(),
  '/large': (_, response) => response.end(new Uint8Array(maxBytes + 1)),
  '/slow': () => {},
  '/empty': (_, response) => response.end(),
  '/text': (_, response) => response.end('hello'),
  '/pixels': (_, response) => response.end(pngHeader(20_000, 20_000)),
}

/** May read two buckets. */
const tenant: Tenant = {
  id: 'acme',
  grants: ['photos', 'missing', 'closed'].map((name) => ({ uri: `s3://${name}/`, access: 'read' })),
  limits: {},
}

const opened: (Server | { close(): Promise<void> })[] = []
let origin: string
const { store: photos } = memoryStore()

const unreadable = (fault: 'missing' | 'forbidden') =>
  ({
    get: () => Promise.reject(new BucketUnavailableError(fault, 'no', {})),
  }) as Partial<ObjectStore> as ObjectStore
const stores: Record<string, ObjectStore> = {
  photos,
  missing: unreadable('missing'),
  closed: unreadable('forbidden'),
}

beforeAll(async () => {
  const server = createServer((request, response) => answers[request.url!]!(request, response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  opened.push(server)
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  await photos.put('large', new Uint8Array(maxBytes + 1))
  await photos.put('text', 'hello')
})
afterAll(async () => {
  for (const each of opened) {
    if ('closeAllConnections' in each) each.closeAllConnections()
    await each.close()
  }
})

function openImages(options: Partial<NodeImageSourceOptions> = {}): ImageSource {
  const images = openImageSource({
    maxBytes,
    timeoutMs: 500,
    allowPrivate: true,
    buckets: (name) => stores[name]!,
    // Given up at once.
    hosts: new HostPaces({ silentMs: -1, refusingMs: -1 }),
    ...options,
  })
  opened.push(images)
  return images.imageAt
}

/** The code of a request at the edge. */
async function edgeCode(image_url: string, images: ImageSource): Promise<string> {
  const edge = fakeEdge({ images })
  edge.deps.accounts.defaultTenant = async () => tenant
  return (await errorOf(await post(edge, jsonRequest({ image_url })))).code
}

/** The code of a line of a batch. */
async function batchCode(image_url: string, images: ImageSource): Promise<string | undefined> {
  const { store } = memoryStore()
  await store.put(keys.tenant(tenant.id), JSON.stringify(tenant))
  const run = createShardRunner({
    captioner: new FakeCaptioner(),
    store,
    images,
    now: () => 1000,
    sleep: async () => {},
  })
  const job = await shardOf(store, [JSON.stringify({ image_url })])
  const results = await run(job, new AbortController().signal)
  return codeOf(decodeShard(results!.object).errors[0]!)
}

/** The code of `turbine caption`. */
async function commandCode(location: string, images: ImageSource): Promise<string> {
  const errors: FailureLine[] = []
  class Decoding extends FakeCaptioner {
    override async caption(...[task]: Parameters<FakeCaptioner['caption']>) {
      const size = { kind: 'squash', width: 8, height: 8, resample: 'bicubic' } as Parameters<
        typeof preprocess
      >[1]
      await preprocess(task.image, size, new Uint8Array(8 * 8 * 3))
      return super.caption(task)
    }
  }
  await captionSources({
    sources: (async function* () {
      yield { image: 'it', location }
    })(),
    captioner: new Decoding(),
    readImage: createImageReader(images),
    output: { append: async () => {} } as Partial<JsonlOutput<OutputLine>> as JsonlOutput<OutputLine>,
    errors: {
      append: async (line: FailureLine) => void errors.push(line),
    } as Partial<JsonlOutput<FailureLine>> as JsonlOutput<FailureLine>,
    done: new FingerprintSet(3),
    tally: newTotals(),
    sleep: async () => {},
  })
  return errors[0]!.error.code
}

/** What the edge, a batch and the command call the fault, each with an image source as it opens one. */
const codesOf = async (address: string, options?: Partial<NodeImageSourceOptions>) => [
  await edgeCode(address, openImages(options)),
  await batchCode(address, openImages(options)),
  await commandCode(address, openImages({ readFile: readImageFile, ...options })),
]

describe('the edge, batches and the command name a fault alike', () => {
  test.each([
    ['/gone', 'image_not_found'],
    ['/closed', 'image_forbidden'],
    ['/broken', 'image_url_status'],
    ['/busy', 'image_host_rate_limited'],
    ['/page', 'image_url_content_type'],
    ['/circle', 'image_url_redirects'],
    ['/to-file', 'image_url_invalid'],
    ['/large', 'image_url_too_large'],
    ['/slow', 'image_url_timeout'],
    ['/empty', 'image_invalid'],
    ['/text', 'image_invalid'],
    ['/pixels', 'image_too_large'],
  ])('an address that leads to %s: %s', async (path, code) => {
    expect(await codesOf(origin + path)).toEqual([code, code, code])
  })

  test.each([
    ['https://10.0.0.1/a.png', 'image_url_private'],
    ['https://localhost/a.png', 'image_url_private'],
    ['https://photos.example.com/a.png', 'image_url_private'],
    ['http://example.com/a.png', 'image_url_invalid'],
    ['https://user:word@example.com/a.png', 'image_url_invalid'],
    ['data:image/png,plain', 'image_invalid'],
    ['data:image/png;base64,pl*in', 'image_url_invalid'],
    ['data:text/plain;base64,aGVsbG8=', 'image_invalid'],
    ['data:image/png;base64,*', 'image_url_invalid'],
    ['data:image/png;base64,', 'image_invalid'],
    ['data:image/png;base64,aGVsbG8=', 'image_invalid'],
    [`data:image/png;base64,${'A'.repeat(2 * maxBytes)}`, 'image_url_too_large'],
    ['s3://photos/a.png', 's3_unavailable'],
  ])('%.40s: %s', async (address, code) => {
    const lookup: NodeImageSourceOptions['lookup'] = (_host, _options, callback) =>
      callback(null, [{ address: '192.168.0.1', family: 4 }])
    const options = { allowPrivate: false, buckets: undefined, lookup }
    expect(await codesOf(address, options)).toEqual([code, code, code])
  })

  test('an address that nobody answers at: image_url_unreachable', async () => {
    const closed = createServer().listen(0, '127.0.0.1')
    await once(closed, 'listening')
    const { port } = closed.address() as AddressInfo
    closed.close()
    await once(closed, 'close')
    const code = 'image_url_unreachable'
    expect(await codesOf(`http://127.0.0.1:${port}/`)).toEqual([code, code, code])
  })

  test.each([
    ['s3://photos/none', 'image_not_found'],
    ['s3://missing/a', 'image_not_found'],
    ['s3://closed/a', 'image_forbidden'],
    ['s3://photos/large', 'image_url_too_large'],
    ['s3://photos/text', 'image_invalid'],
    ['s3://others/a', 's3_not_granted'],
    ['s3://photos/../a', 's3_uri_invalid'],
    ['s3://photos//a', 's3_uri_invalid'],
  ])('%s: %s, and the command reads no S3', async (address, code) => {
    expect(await codesOf(address)).toEqual([code, code, 's3_unavailable'])
  })
})
