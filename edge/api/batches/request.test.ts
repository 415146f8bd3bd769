import { expect, test } from 'vitest'
import { errorOf } from '../../app.fixture.ts'
import { bucketTenant, fromBucket, fromFile, resourceEdge, startSeconds } from '../resources.fixture.ts'

type Edge = ReturnType<typeof resourceEdge>

const create = (edge: Edge, json: unknown) => edge.call('POST', '/v1/batches', { json })

test.each([
  [
    'no input',
    { endpoint: '/v1/captions', completion_window: '1h' },
    400,
    'missing_required_parameter',
    'input_file_id',
  ],
  ['two inputs', { ...fromBucket, input_file_id: 'file-1' }, 400, 'input_ambiguous', 'turbine.input_uri'],
  [
    'another endpoint',
    { ...fromFile('file-1'), endpoint: '/v1/embeddings' },
    400,
    'invalid_value',
    'endpoint',
  ],
  [
    'no window',
    { ...fromFile('file-1'), completion_window: undefined },
    400,
    'missing_required_parameter',
    'completion_window',
  ],
  [
    'a window of words',
    { ...fromFile('file-1'), completion_window: 'soon' },
    400,
    'completion_window_invalid',
    'completion_window',
  ],
  ['an unknown model', { ...fromFile('file-1'), model: 'other' }, 404, 'model_not_found', 'model'],
  ['an unknown file', fromFile('file-none'), 400, 'input_file_not_found', 'input_file_id'],
  ['an unknown field', { ...fromFile('file-1'), size: 1 }, 400, 'unknown_parameter', 'size'],
  [
    'pruning above 1',
    { ...fromBucket, turbine: { max_prune: 2 } },
    400,
    'invalid_value',
    'turbine.max_prune',
  ],
  ['numbers as metadata', { ...fromFile('file-1'), metadata: { a: 1 } }, 400, 'invalid_type', 'metadata.a'],
  [
    'a long key',
    { ...fromFile('file-1'), metadata: { ['k'.repeat(65)]: '' } },
    400,
    'metadata_invalid',
    'metadata',
  ],
  [
    'a long value',
    { ...fromFile('file-1'), metadata: { k: 'v'.repeat(513) } },
    400,
    'metadata_invalid',
    'metadata',
  ],
  [
    'much metadata',
    {
      ...fromFile('file-1'),
      metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, ''])),
    },
    400,
    'metadata_invalid',
    'metadata',
  ],
  [
    'a foreign input',
    { ...fromBucket, turbine: { input_uri: 's3://photos/theirs/' } },
    403,
    's3_not_granted',
    'turbine.input_uri',
  ],
  [
    'a foreign output',
    { ...fromBucket, turbine: { ...fromBucket.turbine, output_uri: 's3://photos/mine/' } },
    403,
    's3_not_granted',
    'turbine.output_uri',
  ],
  [
    'an output that is no prefix',
    { ...fromBucket, turbine: { ...fromBucket.turbine, output_uri: 's3://results/mine/run' } },
    400,
    's3_uri_invalid',
    'turbine.output_uri',
  ],
  [
    'an input of a strange form',
    { ...fromBucket, turbine: { input_uri: '/photos' } },
    400,
    's3_uri_invalid',
    'turbine.input_uri',
  ],
  ['a list', [], 400, 'invalid_type', null],
])('%s is refused, and nothing is begun', async (_name, json, status, code, param) => {
  const edge = resourceEdge({}, [bucketTenant])
  const response = await create(edge, json)
  const error = await errorOf(response)
  expect([response.status, error.code, error.param]).toEqual([status, code, param])
  expect(edge.kept()).toEqual([])
  expect(edge.sent).toEqual([])
})

test.each([
  ['s3://photos/mine/', 's3://photos/mine/', 's3://photos/mine/'],
  ['s3://photos/mine', 's3://photos/mine/', 's3://photos/mine/'],
  ['s3://photos', 's3://photos/', 's3://photos/'],
  // An object, or a prefix: the planner looks.
  ['s3://photos/mine', 's3://photos/', 's3://photos/mine'],
  ['s3://photos/mine', 's3://photos/mine', 's3://photos/mine'],
])('the input %s, where %s may be read, is %s', async (input_uri, uri, expected) => {
  const edge = resourceEdge({}, [{ ...bucketTenant, grants: [{ uri, access: 'read' }] }])
  const response = await create(edge, { ...fromBucket, turbine: { input_uri } })
  expect(await response.json()).toMatchObject({ turbine: { input_uri: expected } })
})

test("another tenant's file and a batch's output are no input", async () => {
  const edge = resourceEdge()
  const foreign = await create(edge, fromFile(await edge.upload('x', 'other')))
  expect([foreign.status, (await errorOf(foreign)).code]).toEqual([400, 'input_file_not_found'])
  const file = {
    id: 'file-out',
    object: 'file',
    bytes: 1,
    created_at: startSeconds,
    filename: 'out.jsonl',
    purpose: 'batch_output',
    status: 'processed',
  } as const
  await edge.keepOutput('default', { file, slices: [] })
  expect((await errorOf(await create(edge, fromFile(file.id)))).code).toBe('input_file_purpose')
})

test('without S3 its addresses are refused with what to do', async () => {
  const edge = resourceEdge({ buckets: undefined }, [bucketTenant])
  const error = await errorOf(await create(edge, fromBucket))
  expect(error).toMatchObject({ code: 's3_unavailable', param: 'turbine.input_uri' })
  expect(error.message).toContain('S3_ENDPOINT')
})

test.each(['photos', 'results'])(
  "the service's own bucket %s is refused, though it was granted",
  async (own) => {
    const edge = resourceEdge({ ownBucket: own }, [bucketTenant])
    const response = await create(edge, fromBucket)
    expect(response.status).toBe(403)
    const error = await errorOf(response)
    expect(error.code).toBe('s3_not_granted')
    expect(error.message).toContain("is in the service's own bucket")
  },
)

test('no image is read from the own bucket', async () => {
  const edge = resourceEdge({ ownBucket: 'photos' }, [bucketTenant])
  const response = await edge.call('POST', '/v1/captions', { json: { image_url: 's3://photos/mine/a.jpg' } })
  expect(response.status).toBe(403)
  expect((await errorOf(response)).code).toBe('s3_not_granted')
})
