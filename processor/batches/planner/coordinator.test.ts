import { describe, expect, test } from 'vitest'
import { isFinal } from '../../../edge/contract/batch.ts'
import type { StoredFile } from '../../../edge/contract/file.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { decodeShardJob, encodeControl } from '../../../edge/contract/shard.ts'
import { jobTopic, topics } from '../../../edge/contract/topics.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import { getJson, StoreUnavailableError } from '../../../infra/store/store.ts'
import { idsOf, manifestOf, PlannerWorld, start } from './planner.fixture.ts'

const leftovers = (world: PlannerWorld) =>
  world.memory.objects.keys().filter((key) => /^(batch-work|open-batches)/.test(key))

describe('a batch', () => {
  test('of one line', async () => {
    const world = new PlannerWorld()
    const id = await world.createBatch('https://example.com/a.jpg')
    const batch = await world.finish(start(world), id)
    expect(batch).toMatchObject({
      status: 'completed',
      error_file_id: null,
      errors: null,
      request_counts: { total: 1, completed: 1, failed: 0 },
      usage: { input_tokens: 10, output_tokens: 2, total_tokens: 12 },
      turbine: { counting: false, prune_ratio_mean: 0.5 },
    })
    for (const stamp of [batch.in_progress_at, batch.finalizing_at, batch.completed_at])
      expect(stamp).toBeGreaterThanOrEqual(batch.created_at)
    expect(await world.customIds(batch.output_file_id)).toEqual(['line-1'])
    expect(leftovers(world)).toEqual([])
  })

  test('has every line once in its output, in the order of the input', async () => {
    const world = new PlannerWorld()
    const id = await world.createBatch(manifestOf(3000))
    const batch = await world.finish(start(world), id)
    expect(batch.request_counts).toEqual({ total: 3000, completed: 3000, failed: 0 })
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(3000))
    expect(world.troubles).toEqual([])
  })

  test('goes to the topic of its model, also when that is there only after its begin', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const shardTopics = () => world.topics.filter((topic) => topic.startsWith(topics.batch))
    await world.finish(planner, await world.createBatch(manifestOf(300), { model: 'owner/name' }))
    expect(new Set(shardTopics())).toEqual(new Set([topics.batch]))
    world.topics.length = 0
    world.ownTopics = (model) => model === 'owner/name'
    await world.finish(planner, await world.createBatch(manifestOf(300), { model: 'owner/name' }))
    expect(new Set(shardTopics())).toEqual(new Set([jobTopic('batch', 'owner/name').topic]))
    world.topics.length = 0
    await world.finish(planner, await world.createBatch(manifestOf(300)))
    expect(new Set(shardTopics())).toEqual(new Set([topics.batch]))
  })

  test('puts bad lines into its error file and goes on', async () => {
    const world = new PlannerWorld()
    const lines = [
      'https://example.com/a.jpg',
      '{"custom_id":"x","image_url":"https://example.com/b.jpg"}',
      '{"custom_id":"x","image_url":"https://example.com/c.jpg"}',
      '',
      'nonsense',
      '{"custom_id":"y"}',
    ]
    const batch = await world.finish(start(world), await world.createBatch(lines.join('\n')))
    expect(batch).toMatchObject({
      status: 'completed',
      request_counts: { total: 5, completed: 2, failed: 3 },
    })
    expect(await world.customIds(batch.output_file_id)).toEqual(['line-1', 'x'])
    expect((await world.fileLines(batch.error_file_id)).map(({ error }) => error)).toMatchObject([
      { code: 'duplicate_custom_id', line: 3 },
      { code: 'invalid_json_line', line: 5 },
      { code: 'image_missing', line: 6 },
    ])
  })

  test('fails when no line is usable, with the lines that are at fault, and sends nothing', async () => {
    const world = new PlannerWorld()
    const batch = await world.finish(start(world), await world.createBatch('nonsense\n{}\n'))
    expect(batch).toMatchObject({
      status: 'failed',
      in_progress_at: null,
      output_file_id: null,
      error_file_id: null,
      request_counts: { total: 2, completed: 0, failed: 2 },
    })
    expect(batch.errors?.data).toMatchObject([
      { code: 'invalid_json_line', line: 1 },
      { code: 'image_missing', line: 2 },
    ])
    expect(batch.failed_at).not.toBeNull()
    expect(world.jobs).toEqual([])
    expect(leftovers(world)).toEqual([])
  })

  test('of which only the last of very many lines is usable runs', async () => {
    const world = new PlannerWorld()
    const id = await world.createBatch(`${'bad\n'.repeat(1000)}https://example.com/a.jpg\n`)
    const batch = await world.finish(start(world), id)
    expect(batch).toMatchObject({ status: 'completed', request_counts: { completed: 1, failed: 1000 } })
  })

  test.each([
    ['', 'empty_batch'],
    ['\n\r\n', 'empty_batch'],
  ])('of nothing (%j) fails', async (text, code) => {
    const world = new PlannerWorld()
    const batch = await world.finish(start(world), await world.createBatch(text))
    expect(batch).toMatchObject({ status: 'failed', errors: { data: [{ code }] } })
  })

  test('whose input is gone fails', async () => {
    const world = new PlannerWorld()
    const id = await world.createBatch(manifestOf(1), { input_file_id: 'file-other' })
    expect(await world.finish(start(world), id)).toMatchObject({
      status: 'failed',
      errors: { data: [{ code: 'input_not_found', param: 'input_file_id' }] },
    })
  })

  test('tells how far it is about once a second', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(1024))
    world.deliver(planner)
    await world.clock.advance(1_500)
    expect(await world.batch(id)).toMatchObject({
      status: 'in_progress',
      request_counts: { total: 1024, completed: 0 },
      turbine: { counting: false },
    })
    await world.process(1)
    world.deliver(planner)
    await world.clock.advance(1_500)
    expect((await world.batch(id)).request_counts.completed).toBe(256)
  })

  test('may have only so many shards in the stream, and a small one gets its share', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const large = await world.createBatch(manifestOf(20_000))
    world.deliver(planner)
    await world.clock.advance(2_000)
    expect(world.jobs.length).toBe(16)
    const small = await world.createBatch(manifestOf(10, 'b'))
    world.deliver(planner)
    await world.clock.advance(2_000)
    expect(world.jobs.map((job) => decodeShardJob(job).batch)).toEqual([...Array(16).fill(large), small])
  })

  test('whose shards wait for slow hosts has others beside them, which may not', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(20_000))
    world.deliver(planner)
    await world.clock.advance(2_000)
    const waits = (shard: number) =>
      encodeControl({ type: 'shard_waiting', tenant: 'acme', batch: id, shard })
    for (const shard of [0, 0, 1, 2]) world.control.push(waits(shard))
    world.deliver(planner)
    await world.clock.advance(2_000)
    expect(world.jobs.map((job) => decodeShardJob(job).shard)).toEqual(
      Array.from({ length: 19 }, (_, i) => i),
    )
    await world.process(3)
    world.deliver(planner)
    await world.clock.advance(2_000)
    expect(world.jobs.length).toBe(16)
  })

  test('that is pressed for time has more shards in the stream than one of its size that is not', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const expires_at = Math.floor(world.clock.now() / 1000) + 1800
    const relaxed = await world.createBatch(manifestOf(20_000))
    const pressed = await world.createBatch(manifestOf(20_000, 'b'), { expires_at })
    world.deliver(planner)
    for (let i = 0; i < 12; i++) {
      await world.clock.advance(2_000)
      await world.process(3)
      world.deliver(planner)
    }
    await world.clock.advance(2_000)
    const waiting = (id: string) => world.jobs.filter((job) => decodeShardJob(job).batch === id).length
    expect(waiting(pressed)).toBeGreaterThan(2 * waiting(relaxed))
    expect(waiting(relaxed)).toBeGreaterThan(0)
  })
})

describe('a batch that nobody has told of', () => {
  test('is found, though not while somebody may be about to', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    await world.createBatch(manifestOf(10))
    await world.clock.advance(8_000)
    expect(planner.coordinator.activeBatches).toBe(0)
    await world.clock.advance(10_000)
    expect(planner.coordinator.activeBatches).toBe(1)
  })

  test('and does not exist any more has its marker removed', async () => {
    const world = new PlannerWorld()
    const id = await world.createBatch(manifestOf(10))
    await world.memory.store.delete(keys.batch('acme', id))
    world.deliver(start(world))
    await world.clock.advance(1_000)
    expect(leftovers(world)).toEqual([])
  })
})

describe('input and output', () => {
  test('an object of a bucket, results below a prefix of another', async () => {
    const world = new PlannerWorld()
    await world.bucket('pictures').put('lists/one.jsonl', manifestOf(5))
    const turbine = {
      input_uri: 's3://pictures/lists/one.jsonl',
      output_uri: 's3://results/today/',
      max_prune: 1,
      prune_ratio_mean: null,
      counting: true,
    }
    const id = await world.createBatch('', { turbine })
    const batch = await world.finish(start(world), id)
    expect(batch.status).toBe('completed')
    expect(world.buckets.get('results')!.objects.keys()).toEqual([`today/${id}_output.jsonl`])
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(5))
    const file = await getJson<StoredFile>(world.memory.store, keys.file('acme', batch.output_file_id!))
    expect(file).toMatchObject({
      file: { filename: `${id}_output.jsonl`, purpose: 'batch_output', created_at: batch.finalizing_at },
      slices: [{ bucket: 'results', key: `today/${id}_output.jsonl` }],
    })
  })

  test('every image below a prefix', async () => {
    const world = new PlannerWorld()
    const bucket = world.bucket('pictures')
    for (const key of ['2024/b.PNG', '2024/a.jpg', '2024/deep/c.webp', '2024/readme.txt', '2023/old.jpg'])
      await bucket.put(key, 'bytes')
    const turbine = { input_uri: 's3://pictures/2024/', max_prune: 1, prune_ratio_mean: null, counting: true }
    const batch = await world.finish(start(world), await world.createBatch('', { turbine }))
    expect(batch.request_counts.total).toBe(3)
    expect(await world.customIds(batch.output_file_id)).toEqual(['a.jpg', 'b.PNG', 'deep/c.webp'])
    expect(batch.turbine.skipped).toEqual({ not_image: 1 })
    expect(leftovers(world)).toEqual([])
  })

  test.each([
    ['the manifest', /^put .*\/manifest/],
    ['its counts', /^put .*\/skipped/],
    ['the plan', /^put .*\/plan/],
    ['the first shards', /^send/],
  ])('what is left out is told though a planner dies with %s', async (_, killAt) => {
    const world = new PlannerWorld()
    for (const key of ['p/a.jpg', 'p/.b.jpg', 'p/c.txt', 'p/d.txt'])
      await world.bucket('pictures').put(key, 'x')
    const turbine = { input_uri: 's3://pictures/p', max_prune: 1, prune_ratio_mean: null, counting: true }
    const first = world.startPlanner()
    first.killAt(killAt)
    const id = await world.createBatch('', { turbine })
    await world.clock.until(() => first.dead)
    const batch = await world.finish(start(world), id)
    expect(batch).toMatchObject({
      request_counts: { total: 1, completed: 1 },
      turbine: { skipped: { hidden: 1, not_image: 2 } },
    })
  })

  test('of which nothing is a picture, tells what there is', async () => {
    const world = new PlannerWorld()
    for (const key of ['p/.b.jpg', 'p/c.txt']) await world.bucket('pictures').put(key, 'x')
    const turbine = { input_uri: 's3://pictures/p/', max_prune: 1, prune_ratio_mean: null, counting: true }
    const batch = await world.finish(start(world), await world.createBatch('', { turbine }))
    expect(batch.errors?.data[0]?.message).toBe(
      'There are no images in s3://pictures/p/ (skipped: 1 hidden, 1 not an image).',
    )
    expect(batch.turbine.skipped).toEqual({ hidden: 1, not_image: 1 })
  })

  test('a prefix without images, an object that is not there', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    for (const [input_uri, code] of [
      ['s3://pictures/none/', 'empty_batch'],
      ['s3://pictures/none.jsonl', 'input_not_found'],
    ]) {
      const turbine = { input_uri, max_prune: 1, prune_ratio_mean: null, counting: true }
      const batch = await world.finish(planner, await world.createBatch('', { turbine }))
      expect(batch.errors?.data).toMatchObject([{ code, param: 'turbine.input_uri' }])
    }
  })

  test.each([
    ['input', 's3://pictures/lists/one.jsonl'],
    ['input', 's3://pictures/2024/'],
    ['output', 's3://results/today/'],
  ])('a grant that was revoked before the batch runs fails it: the %s %s', async (side, uri) => {
    const world = new PlannerWorld()
    await world.bucket('pictures').put('lists/one.jsonl', manifestOf(5))
    await world.bucket('pictures').put('2024/a.jpg', 'bytes')
    const turbine = { [`${side}_uri`]: uri, max_prune: 1, prune_ratio_mean: null, counting: true }
    const id = await world.createBatch(manifestOf(5), { turbine })
    await world.grant([])
    const batch = await world.finish(start(world), id)
    expect(batch).toMatchObject({
      status: 'failed',
      errors: { data: [{ code: 's3_not_granted', param: `turbine.${side}_uri` }] },
    })
    expect(world.jobs).toEqual([])
    expect(world.buckets.get('results')?.objects.keys() ?? []).toEqual([])
  })

  test("a grant that was revoked while the batch ran leaves the results in the batch's own files", async () => {
    const world = new PlannerWorld()
    const output_uri = 's3://results/today/'
    const turbine = { output_uri, max_prune: 1, prune_ratio_mean: null, counting: true }
    const planner = start(world)
    const id = await world.createBatch(manifestOf(3), { turbine })
    world.deliver(planner)
    await world.clock.advance(1_000)
    await world.grant([])
    const batch = await world.finish(planner, id)
    expect(batch).toMatchObject({
      status: 'completed',
      errors: { data: [{ code: 'output_uri_unavailable', param: 'turbine.output_uri' }] },
    })
    expect(batch.errors!.data[0]!.message).toContain('may no longer write')
    expect(world.buckets.get('results')?.objects.keys() ?? []).toEqual([])
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(3))
  })

  test('output files expire when the batch says so', async () => {
    const world = new PlannerWorld()
    const id = await world.createBatch(manifestOf(1))
    const stored = await getJson<object>(world.memory.store, keys.batch('acme', id))
    await world.memory.store.put(
      keys.batch('acme', id),
      JSON.stringify({ ...stored, outputExpiresAfter: 3600 }),
    )
    const batch = await world.finish(start(world), id)
    const file = await getJson<StoredFile>(world.memory.store, keys.file('acme', batch.output_file_id!))
    expect(file!.file.expires_at).toBe(batch.created_at + 3600)
  })
})

describe('cancel', () => {
  test('stops sending and keeps what was done', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(10_000))
    world.deliver(planner)
    await world.clock.advance(1_000)
    await world.process(3)
    world.deliver(planner)
    await world.clock.advance(1_000)
    const sent = world.jobs.length
    await world.cancelBatch(id)
    world.deliver(planner)
    await world.clock.advance(1_000)
    expect(await world.batch(id)).toMatchObject({ status: 'cancelling', in_progress_at: expect.any(Number) })
    expect(world.jobs.length).toBe(sent)
    const batch = await world.finish(planner, id)
    expect(batch).toMatchObject({
      status: 'cancelled',
      request_counts: { total: 10_000, completed: 768, failed: 0 },
      error_file_id: null,
    })
    expect(batch.cancelled_at! - batch.cancelling_at!).toBeLessThan(10)
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(768))
    expect(leftovers(world)).toEqual([keys.batchCancel('acme', id)])
  })

  test('keeps the lines that are done of shards in hand, which makes it no completed batch', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(10))
    world.deliver(planner)
    await world.clock.advance(1_000)
    await world.cancelBatch(id)
    world.processors.linesInHand = 4
    await world.process()
    world.deliver(planner)
    await world.clock.advance(1_000)
    const batch = await world.finish(planner, id)
    expect(batch).toMatchObject({
      status: 'cancelled',
      request_counts: { total: 10, completed: 4, failed: 0 },
    })
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(4))
  })

  test('is seen without a word from the stream', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(10))
    world.deliver(planner)
    await world.clock.advance(1_000)
    await world.cancelBatch(id, { silently: true })
    await world.clock.advance(2_000)
    expect((await world.batch(id)).status).toBe('cancelling')
    expect(await world.finish(planner, id)).toMatchObject({ status: 'cancelled', output_file_id: null })
  })

  test('is heard while the batch is being claimed', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(10))
    world.control.push(encodeControl({ type: 'batch_cancelled', tenant: 'acme', batch: id }))
    world.deliver(planner)
    await world.clock.advance(1_000)
    expect(await world.batch(id)).toMatchObject({ status: 'cancelled', in_progress_at: null })
    expect(world.jobs).toEqual([])
  })

  test('leaves out a shard that is done while the files are written', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(1000))
    world.deliver(planner)
    await world.clock.advance(1_000)
    await world.process(2)
    const [late] = world.jobs.splice(0)
    await world.cancelBatch(id)
    planner.stallAt(/^put files/)
    world.deliver(planner)
    await world.clock.advance(6_000)
    const saved = await world.progress(id)
    expect(saved?.seal).toEqual({ ending: 'cancelled', errors: [] })
    // Its processor had not seen the cancellation.
    await world.memory.store.delete(keys.batchCancel('acme', id))
    world.jobs = [late!]
    await world.process()
    await world.clock.advance(20_000)
    expect((await world.progress(id))?.work).toEqual(saved?.work)
    planner.resume()
    const batch = await world.finish(planner, id)
    expect(batch).toMatchObject({ status: 'cancelled', request_counts: { completed: 512 } })
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(512))
  })

  test('counts what was finished but not told', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(1000))
    world.deliver(planner)
    await world.clock.advance(1_000)
    await world.process(2)
    world.control = []
    await world.cancelBatch(id)
    const batch = await world.finish(planner, id)
    expect(batch.request_counts.completed).toBe(512)
  })
})

describe('expiry', () => {
  test('marks what was not begun', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const text = `${manifestOf(600)}nonsense\n{"custom_id":"a-1","image_url":"https://example.com/a.jpg"}\n`
    const id = await world.createBatch(text, { expires_at: Math.floor(world.clock.now() / 1000) + 60 })
    world.deliver(planner)
    await world.clock.advance(1_000)
    await world.process(1)
    world.deliver(planner)
    await world.clock.until(async () => isFinal((await world.batch(id)).status))
    const batch = await world.batch(id)
    expect(batch).toMatchObject({
      status: 'expired',
      request_counts: { total: 602, completed: 256, failed: 2 },
    })
    expect(batch.expired_at! - batch.expires_at).toBeLessThan(30)
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(256))
    const errors = await world.fileLines(batch.error_file_id)
    expect(errors.map(({ custom_id }) => custom_id)).toEqual([...idsOf(600).slice(256), null, 'a-1'])
    expect(errors.slice(0, 344).every(({ error }) => error?.code === 'batch_expired')).toBe(true)
    expect(errors.slice(344).map(({ error }) => error?.code)).toEqual([
      'invalid_json_line',
      'duplicate_custom_id',
    ])
  })
})

describe('outages', () => {
  test('the store is away for a minute', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(2000))
    world.deliver(planner)
    await world.clock.advance(2_000)
    world.storeIsAway = true
    await world.process(4)
    world.deliver(planner)
    await world.clock.advance(60_000)
    world.storeIsAway = false
    const batch = await world.finish(planner, id)
    expect(batch.request_counts).toEqual({ total: 2000, completed: 2000, failed: 0 })
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(2000))
    await world.clock.advance(5_000)
    const told = world.logged.map(({ message }) => message)
    expect(told.filter((message) => /batches (paused|resumed)/.test(message))).toEqual([
      'store or stream unavailable, batches paused',
      'outage over, batches resumed',
    ])
  })

  test('a look at the open batches that fails is repeated', async () => {
    const world = new PlannerWorld()
    world.listFault = new Error('The list is garbled.')
    const planner = start(world)
    const id = await world.createBatch(manifestOf(3))
    world.control = []
    await world.clock.advance(20_000)
    expect(world.troubles[0]).toBe('scanning open batches failed, retrying: Error: The list is garbled.')
    world.listFault = undefined
    await world.clock.advance(20_000)
    expect((await world.finish(planner, id)).status).toBe('completed')
  })

  test('the stream is away for a minute', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(500))
    world.streamIsAway = true
    world.deliver(planner)
    await world.clock.advance(60_000)
    expect((await world.batch(id)).status).toBe('validating')
    world.streamIsAway = false
    expect((await world.finish(planner, id)).status).toBe('completed')
    expect(world.troubles).toEqual(['store or stream unavailable, batches paused'])
  })

  test("a caller's bucket that refuses does not cost the results", async () => {
    const world = new PlannerWorld()
    const output_uri = `s3://results/${'long/'.repeat(300)}`
    const turbine = { output_uri, max_prune: 1, prune_ratio_mean: null, counting: true }
    const batch = await world.finish(start(world), await world.createBatch(manifestOf(3), { turbine }))
    expect(batch).toMatchObject({
      status: 'completed',
      errors: { data: [{ code: 'output_uri_unavailable', param: 'turbine.output_uri' }] },
    })
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(3))
  })

  /** A world in which the buckets of callers fail, while the service's own store works. */
  function worldWithFailingBuckets() {
    const world = new PlannerWorld()
    const fail = () => Promise.reject(new StoreUnavailableError('503 SlowDown'))
    const memory = memoryStore()
    const store = { ...memory.store, get: fail, head: fail, list: fail, put: fail }
    for (const name of ['pictures', 'results']) world.buckets.set(name, { ...memory, store })
    return world
  }
  const turbineOf = (uris: { input_uri?: string; output_uri?: string }) => ({
    turbine: { ...uris, max_prune: 1, prune_ratio_mean: null, counting: true },
  })

  test.each(['s3://pictures/work.jsonl', 's3://pictures/photos/'])(
    'a batch whose input %s is never given out fails by the end of its window, and the others go on',
    async (input_uri) => {
      const world = worldWithFailingBuckets()
      const planner = start(world)
      const expires_at = Math.floor(world.clock.now() / 1000) + 60
      const broken = await world.createBatch('', { ...turbineOf({ input_uri }), expires_at })
      const other = await world.createBatch(manifestOf(3))
      expect((await world.finish(planner, other, { limitMs: 10_000 })).status).toBe('completed')
      expect((await world.batch(broken)).status).toBe('validating')
      const batch = await world.finish(planner, broken, { limitMs: 90_000 })
      expect(batch).toMatchObject({
        status: 'failed',
        errors: { data: [{ code: 'input_unavailable', param: 'turbine.input_uri' }] },
      })
      expect(world.troubles).toEqual([])
    },
  )

  test("a caller's bucket that fails does not cost the results, and the others go on", async () => {
    const world = worldWithFailingBuckets()
    const planner = start(world)
    const broken = await world.createBatch(manifestOf(3), turbineOf({ output_uri: 's3://results/' }))
    world.deliver(planner)
    await world.clock.advance(5_000)
    await world.process()
    const other = await world.createBatch(manifestOf(3))
    expect((await world.finish(planner, other, { limitMs: 10_000 })).status).toBe('completed')
    const batch = await world.finish(planner, broken)
    expect(batch).toMatchObject({
      status: 'completed',
      errors: {
        data: [{ code: 'output_uri_unavailable', message: expect.stringContaining('503 SlowDown') }],
      },
    })
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(3))
    expect(world.troubles).toEqual([])
  })

  test('shards that are done without a word are found', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(1000))
    world.deliver(planner)
    await world.clock.advance(1_000)
    await world.process()
    world.control = []
    await world.clock.advance(30_000)
    expect((await world.batch(id)).status).toBe('completed')
  })

  test('shards that the stream lost are sent again', async () => {
    const world = new PlannerWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(1000))
    world.deliver(planner)
    await world.clock.advance(1_000)
    world.jobs.shift()
    await world.process()
    world.deliver(planner)
    await world.clock.advance(5 * 60_000)
    expect(world.jobs).toEqual([])
    await world.clock.advance(6 * 60_000)
    expect(world.jobs.map((job) => decodeShardJob(job).shard)).toEqual([0])
    expect((await world.finish(planner, id)).status).toBe('completed')
  })
})
