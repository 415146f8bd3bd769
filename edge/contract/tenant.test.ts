import { expect, test } from 'vitest'
import { assertGranted, parseS3Uri, type S3Address, type Tenant, tenantSchema } from './tenant.ts'

const ownBucket = 'turbine'
const tenant: Tenant = {
  id: 'acme',
  grants: [
    { uri: 's3://photos/2026/', access: 'read' },
    { uri: 's3://photos/list.jsonl', access: 'read' },
    { uri: 's3://results/', access: 'write' },
  ],
  limits: {},
}

test.each<[string, S3Address]>([
  ['s3://photos/a/b.jpg', { bucket: 'photos', key: 'a/b.jpg' }],
  ['s3://photos/', { bucket: 'photos', key: '' }],
  ['s3://photos', { bucket: 'photos', key: '' }],
  ...['a//b', '/a', '//', 'a/./b', './a', 'a/../b', 'a/..', 'a b+%2f?#', '日本/é'].map(
    (key): [string, S3Address] => [`s3://photos/${key}`, { bucket: 'photos', key }],
  ),
])('%s is an address', (uri, address) => {
  expect(parseS3Uri(uri)).toEqual(address)
})

test.each([
  'https://photos/a',
  's3:/photos/a',
  's3://',
  's3:///a',
  's3://A/b',
  's3://ab/../c',
  's3://ab/a/../../c',
  's3://ab/..',
])('%s is no address', (uri) => {
  expect(() => parseS3Uri(uri, 'image_url')).toThrow(
    expect.objectContaining({ code: 's3_uri_invalid', status: 400, param: 'image_url' }),
  )
})

test.each([
  ['read', 's3://photos/2026/a.jpg'],
  ['read', 's3://photos/2026/'],
  ['read', 's3://photos/list.jsonl'],
  ['write', 's3://results/run/'],
  ['read', 's3://photos/2026//a.jpg'],
  ['read', 's3://photos/2026/./a.jpg'],
  ['read', 's3://photos/2026/b/../a.jpg'],
] as const)('may %s %s', (access, uri) => {
  expect(assertGranted(tenant, access, uri, { ownBucket })).toEqual(parseS3Uri(uri))
})

test.each([
  ['write', 's3://photos/2026/a.jpg'],
  ['read', 's3://results/run/'],
  ['read', 's3://photos/2026'],
  ['read', 's3://photos/2025/a.jpg'],
  ['read', 's3://photos-private/2026/a.jpg'],
  ['read', 's3://photos/list.jsonl.bak'],
  ['read', 's3://photos/'],
  // To servers that take keys for paths these are elsewhere.
  ['read', 's3://photos/2026/../2025/a.jpg'],
  ['read', 's3://photos/2026/..'],
  ['read', 's3://photos/2026/a/../../2025/a.jpg'],
  ['read', 's3://photos/2026//../2025/a.jpg'],
  // And to others these.
  ['read', 's3://photos/2025/../2026/a.jpg'],
  ['read', 's3://photos//2026/a.jpg'],
  ['read', 's3://photos/x/../list.jsonl'],
] as const)('may not %s %s, and learns how to be granted it', (access, uri) => {
  expect(() => assertGranted(tenant, access, uri, { ownBucket, param: 'turbine.input_uri' })).toThrow(
    expect.objectContaining({
      code: 's3_not_granted',
      status: 403,
      param: 'turbine.input_uri',
      message: expect.stringContaining(`npx turbine tenants grant acme --${access} s3://`),
    }),
  )
})

test('a grant can have such segments too', () => {
  const odd: Tenant = { ...tenant, grants: [{ uri: 's3://photos/a//', access: 'read' }] }
  const may = (uri: string) => () => assertGranted(odd, 'read', uri, { ownBucket })
  expect(may('s3://photos/a//b.jpg')).not.toThrow()
  expect(may('s3://photos/a/b.jpg')).toThrow(expect.objectContaining({ code: 's3_not_granted' }))
})

test.each([
  ['turbine', 's3://turbine/files/other/content/file-a'],
  ['turbine', 's3://turbine/'],
  ['Turbine', 's3://turbine/files/x'],
])('nobody is granted the own bucket %s, not by mistake either: %s', (own, uri) => {
  const everywhere: Tenant = { ...tenant, grants: [{ uri: 's3://turbine/', access: 'read' }] }
  const ask = () => assertGranted(everywhere, 'read', uri, { ownBucket: own })
  expect(ask).toThrow(expect.objectContaining({ code: 's3_not_granted' }))
  expect(assertGranted(everywhere, 'read', uri, { ownBucket: 'other' }).bucket).toBe('turbine')
})

test.each(['Acme', '', 'a b', '-a', 'a/b', 'x'.repeat(64)])('"%s" is no name of a tenant', (id) => {
  expect(tenantSchema.safeParse({ id }).success).toBe(false)
})

test('a tenant starts without grants and limits', () => {
  expect(tenantSchema.parse({ id: 'acme' })).toEqual({ id: 'acme', grants: [], limits: {} })
})
