import fc from 'fast-check'
import { expect, test } from 'vitest'
import { errorOf } from '../../app.fixture.ts'
import type { File as StoredInfo } from '../../contract/file.ts'
import type { Tenant } from '../../contract/tenant.ts'
import { resourceEdge, startSeconds } from '../resources.fixture.ts'
import { parseRange } from './content.ts'

const output: StoredInfo = {
  id: 'file-out',
  object: 'file',
  bytes: 8,
  created_at: startSeconds,
  filename: 'out.jsonl',
  purpose: 'batch_output',
  status: 'processed',
}

test("what lies in a caller's bucket is read from there, and stays when the file is deleted", async () => {
  const grants: Tenant['grants'] = [{ uri: 's3://results/run/', access: 'write' }]
  const edge = resourceEdge({}, [{ id: 'default', grants, limits: {} }])
  const { store, objects } = edge.bucket('results')
  const slice = { bucket: 'results', key: 'run/out.jsonl', start: 0, end: 8 }
  await store.put(slice.key, '01234567')
  // The same key in the service's own store is something else.
  await edge.deps.store.put(slice.key, '')
  await edge.keepOutput('default', { file: output, slices: [slice] })
  expect(await (await edge.call('GET', '/v1/files/file-out/content')).text()).toBe('01234567')
  expect((await edge.call('DELETE', '/v1/files/file-out')).status).toBe(200)
  expect(edge.kept()).toEqual([slice.key])
  expect(objects.has(slice.key)).toBe(true)
})

test.each([
  ['without a grant', [], undefined, 403],
  ['with a grant to read', [{ uri: 's3://results/run/', access: 'read' }], undefined, 200],
  ['in the own bucket', [{ uri: 's3://results/', access: 'write' }], 'results', 403],
] as const)("what lies in a caller's bucket %s", async (_, grants, ownBucket, status) => {
  const edge = resourceEdge({ ownBucket }, [{ id: 'default', grants: [...grants], limits: {} }])
  await edge.bucket('results').store.put('run/out.jsonl', '01234567')
  const slices = [{ bucket: 'results', key: 'run/out.jsonl', start: 0, end: 8 }]
  await edge.keepOutput('default', { file: output, slices })
  const response = await edge.call('GET', '/v1/files/file-out/content')
  expect(response.status).toBe(status)
  if (status === 403) expect((await errorOf(response)).code).toBe('s3_not_granted')
})

test('bytes that are gone are 404 before anything is answered', async () => {
  const edge = resourceEdge()
  await edge.keepOutput('default', { file: output, slices: [{ key: 'gone', start: 0, end: 8 }] })
  const response = await edge.call('GET', '/v1/files/file-out/content')
  expect(response.status).toBe(404)
  expect(await errorOf(response)).toMatchObject({ code: 'file_content_missing' })
})

test('a file whose name is no well-formed text has its bytes all the same', async () => {
  const edge = resourceEdge()
  await edge.deps.store.put('bytes', '01234567')
  const file = { ...output, filename: 'out\ud800.jsonl' }
  await edge.keepOutput('default', { file, slices: [{ key: 'bytes', start: 0, end: 8 }] })
  const response = await edge.call('GET', '/v1/files/file-out/content')
  expect(response.status).toBe(200)
  expect(response.headers.get('content-disposition')).toBe("attachment; filename*=UTF-8''out%EF%BF%BD.jsonl")
})

test('a file of several parts is read as one, and so is a range of it', async () => {
  const edge = resourceEdge()
  await edge.deps.store.put('parts/a', '0123')
  await edge.deps.store.put('parts/b', '4567')
  const slices = ['a', 'b'].map((part) => ({ key: `parts/${part}`, start: 0, end: 4 }))
  await edge.keepOutput('default', { file: output, slices })
  const get = (range?: string) =>
    edge.call('GET', '/v1/files/file-out/content', { headers: range ? { range } : {} })
  expect(await (await get()).text()).toBe('01234567')
  const part = await get('bytes=2-5')
  expect(part.status).toBe(206)
  expect(part.headers.get('content-range')).toBe('bytes 2-5/8')
  expect(part.headers.get('content-length')).toBe('4')
  expect(await part.text()).toBe('2345')
  const beyond = await get('bytes=8-')
  expect(beyond.status).toBe(416)
  expect(await errorOf(beyond)).toMatchObject({ code: 'range_invalid' })
})

test.each([
  ['bytes=0-', { start: 0, end: 10 }],
  ['bytes=3-3', { start: 3, end: 4 }],
  ['bytes=3-100', { start: 3, end: 10 }],
  ['bytes=-4', { start: 6, end: 10 }],
  ['bytes=-40', { start: 0, end: 10 }],
  [undefined, undefined],
  ['bytes=-', undefined],
  ['bytes=0-1,3-4', undefined],
  ['lines=0-1', undefined],
])('the range %s of 10 bytes', (header, range) => expect(parseRange(header, 10)).toEqual(range))

test.each(['bytes=10-', 'bytes=5-4', 'bytes=-0'])('the range %s is not in 10 bytes', (header) => {
  expect(() => parseRange(header, 10)).toThrow(expect.objectContaining({ code: 'range_invalid' }))
})

test('a tenant has its own limit of downloads, and all have one together', async () => {
  const edge = resourceEdge()
  await edge.deps.store.put('bytes', '01234567')
  const slices = [{ key: 'bytes', start: 0, end: 8 }]
  for (const tenant of ['a', 'b', 'c']) await edge.keepOutput(tenant, { file: output, slices })
  const download = (tenant: string) => edge.call('GET', '/v1/files/file-out/content', { tenant })
  const ofA = await Promise.all([1, 2, 3, 4].map(() => download('a')))
  const fifth = await download('a')
  expect(fifth.status).toBe(429)
  expect(fifth.headers.get('retry-after')).toBe('5')
  expect((await errorOf(fifth)).code).toBe('too_many_downloads')
  const ofB = await Promise.all([1, 2, 3, 4].map(() => download('b')))
  expect(ofB.map(({ status }) => status)).toEqual([200, 200, 200, 200])
  const full = await download('c')
  expect(full.status).toBe(503)
  expect(full.headers.get('retry-after')).toBe('5')
  expect((await errorOf(full)).code).toBe('downloads_full')

  // HEAD and failures take none, and each download returns its own.
  expect((await edge.call('HEAD', '/v1/files/file-out/content', { tenant: 'c' })).status).toBe(200)
  await ofA[0]!.text()
  await ofB[0]!.body!.cancel()
  await edge.keepOutput('c', { file: output, slices: [{ key: 'gone', start: 0, end: 8 }] })
  expect((await download('c')).status).toBe(404)
  await edge.keepOutput('c', { file: output, slices })
  expect((await download('c')).status).toBe(200)
  expect((await download('a')).status).toBe(200)
})

test.each([
  ["it's (a) *.jsonl", 'it%27s%20%28a%29%20%2A.jsonl'],
  ['a\r\nb".jsonl', 'a%0D%0Ab%22.jsonl'],
  ['é'.repeat(200), '%C3%A9'.repeat(127)],
])('the name %j is written so that no header breaks', async (filename, encoded) => {
  const edge = resourceEdge()
  await edge.deps.store.put('bytes', '01234567')
  await edge.keepOutput('default', {
    file: { ...output, filename },
    slices: [{ key: 'bytes', start: 0, end: 8 }],
  })
  const response = await edge.call('GET', '/v1/files/file-out/content')
  expect(response.headers.get('content-disposition')).toBe(`attachment; filename*=UTF-8''${encoded}`)
  await response.body!.cancel()
})

test('any range lies in the file, is ignored, or is refused', () => {
  const digits = fc.oneof(fc.nat(30).map(String), fc.constantFrom('', '9'.repeat(400), '-1', '1e3', '00'))
  const range = fc.oneof(
    fc.tuple(digits, digits).map(([first, last]) => `bytes=${first}-${last}`),
    fc.string({ unit: 'binary' }),
  )
  fc.assert(
    fc.property(range, fc.nat(20), (header, size) => {
      try {
        const { start, end } = parseRange(header, size) ?? { start: 0, end: size }
        expect(0 <= start && start <= end && end <= size).toBe(true)
      } catch (error) {
        expect(error).toMatchObject({ status: 416, code: 'range_invalid' })
      }
    }),
  )
})
