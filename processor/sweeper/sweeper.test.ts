import { expect, test } from 'vitest'
import { keys } from '../../edge/contract/keys.ts'
import type { StorageUsage } from '../../edge/contract/usage.ts'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { getJson, type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import { type SweeperOptions, type SweepState, startSweeper } from './sweeper.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
const start = 1_790_000_000_000
const tenant = 'acme'

/** A store with a clock that is turned by hand. */
function world() {
  const memory = memoryStore()
  const state = { now: start, lists: 0, listedKeys: 0, away: false }
  const ages = new Map<string, number>()
  const store: ObjectStore = {
    ...memory.store,
    async put(key, ...args) {
      ages.set(key, state.now)
      return memory.store.put(key, ...args)
    },
    async list(prefix, options) {
      if (state.away) throw new StoreUnavailableError('away')
      const page = await memory.store.list(prefix, options)
      state.lists++
      state.listedKeys = Math.max(state.listedKeys, page.objects.length)
      const objects = page.objects.map((object) => ({ ...object, lastModified: ages.get(object.key)! }))
      return { ...page, objects }
    },
  }
  const put = (key: string, value: unknown = {}) => store.put(key, JSON.stringify(value))
  const tick = () => new Promise<void>((resolve) => setImmediate(resolve))
  const begin = (more: Partial<SweeperOptions> = {}) =>
    startSweeper({
      ...{
        store,
        log: { info: () => {}, warn: () => {} },
        intervalMs: hourMs,
        captionRetentionMs: 7 * dayMs,
      },
      ...{ now: () => state.now, sleep: tick, ...more },
    })
  const sweepState = () => getJson<SweepState>(store, keys.sweep)

  /** Runs a sweep that begins now. */
  async function sweep(): Promise<string[]> {
    state.now += hourMs
    const sweeper = begin()
    while ((await sweepState())?.startedAt !== state.now || !(await sweepState())?.endedAt) await tick()
    await sweeper.close()
    return memory.objects.keys().filter((key) => key !== keys.sweep && !key.startsWith('usage/'))
  }
  return { state, store, put, begin, sweep, sweepState, tick, objects: memory.objects }
}

/** A file of one slice, as the edge stores it. */
async function putFile(
  { store, put }: ReturnType<typeof world>,
  id: string,
  {
    expires_at,
    content = keys.fileContent(tenant, `${id}-1`),
  }: { expires_at?: number; content?: string } = {},
) {
  await store.put(content, '0123456789')
  await put(keys.file(tenant, id), {
    file: { id, bytes: 10, ...(expires_at && { expires_at }) },
    slices: [{ key: content, start: 0, end: 10 }],
  })
  return [content, keys.file(tenant, id)]
}

const putUpload = ({ put }: ReturnType<typeof world>, id: string, status: string) =>
  put(keys.upload(tenant, id), { upload: { id, status, expires_at: start / 1000 + 3600 } })

test('captions, claims and marks go when they are old, and not before', async () => {
  const all = world()
  const old = [
    keys.caption(tenant, 'cap_1'),
    keys.captionImage(tenant, 'cap_1'),
    keys.idempotency(tenant, 'a'),
    keys.crashMark('turbine.batch', '1-1'),
    keys.backlog('gone'),
  ]
  for (const key of old) await all.put(key)
  expect(await all.sweep()).toHaveLength(5)
  all.state.now += 2 * dayMs
  expect(await all.sweep()).toHaveLength(3)
  all.state.now += 5 * dayMs
  expect(await all.sweep()).toEqual([keys.crashMark('turbine.batch', '1-1')])
  all.state.now += 10 * dayMs
  expect(await all.sweep()).toEqual([])
})

test('files and outputs go when they expire, with their content', async () => {
  const all = world()
  const lasting = await putFile(all, 'file-a')
  await putFile(all, 'file-b', { expires_at: start / 1000 + 7200 })
  await putFile(all, 'file-1-output', {
    expires_at: start / 1000 + 7200,
    content: keys.fileContent(tenant, 'file-1-output'),
  })
  expect(await all.sweep()).toHaveLength(6)
  all.state.now += 2 * hourMs
  expect((await all.sweep()).toSorted()).toEqual(lasting.toSorted())
})

test('content that no file has goes after a day', async () => {
  const all = world()
  const kept = await putFile(all, 'file-a')
  await all.store.put(keys.fileContent(tenant, 'file-a-other'), 'x')
  await all.store.put(keys.fileContent(tenant, 'file-dead-1'), 'x')
  expect(await all.sweep()).toHaveLength(4)
  all.state.now += dayMs
  expect((await all.sweep()).toSorted()).toEqual(kept.toSorted())
})

test('the files of a batch that runs stay though they are not visible yet', async () => {
  const all = world()
  const output = keys.fileContent(tenant, 'file-1-output')
  await all.store.put(output, 'x')
  await all.put(keys.batch(tenant, 'batch_1'), { tenant, batch: { status: 'finalizing' } })
  all.state.now += 2 * dayMs
  expect(await all.sweep()).toContain(output)
})

test('parts of uploads that expired, were cancelled or were not used go; those of files stay', async () => {
  const all = world()
  const part = (upload: string, name: string) => keys.uploadPart(tenant, upload, name)
  await putUpload(all, 'upload_pending', 'pending')
  await putUpload(all, 'upload_cancelled', 'cancelled')
  await putUpload(all, 'upload_done', 'completed')
  for (const upload of ['upload_pending', 'upload_cancelled', 'upload_done', 'upload_unknown'])
    await all.store.put(part(upload, 'part_1'), 'x')
  await all.store.put(part('upload_done', 'part_2'), 'x')
  await putFile(all, 'file-done', { content: part('upload_done', 'part_1') })
  all.state.now -= hourMs - 1
  expect(await all.sweep()).toContain(part('upload_cancelled', 'part_1'))
  all.state.now += hourMs
  const later = await all.sweep()
  expect(later).not.toContain(part('upload_cancelled', 'part_1'))
  all.state.now += dayMs
  const left = (await all.sweep()).filter((key) => key.includes('/content/'))
  expect(left).toEqual([part('upload_done', 'part_1')])
})

test('what ended batches left goes; what runs, and what cannot be read, stays', async () => {
  const all = world()
  await all.put(keys.batchCancel(tenant, 'batch_1'))
  await all.put(keys.batchCancel(tenant, 'batch_2'))
  await all.put(keys.batchCancel(tenant, 'batch_3'))
  await all.put(keys.batch(tenant, 'batch_1'), { batch: { status: 'cancelled' } })
  await all.put(keys.batch(tenant, 'batch_2'), { batch: { status: 'in_progress' } })
  await all.store.put(keys.batch(tenant, 'batch_3'), '{')
  all.state.now += 41 * dayMs
  const left = (await all.sweep()).filter((key) => key.startsWith('batch-work/'))
  expect(left).toEqual([keys.batchCancel(tenant, 'batch_2'), keys.batchCancel(tenant, 'batch_3')])
})

test('what tenants store is counted, and corrected', async () => {
  const all = world()
  await putFile(all, 'file-a')
  await putUpload(all, 'upload_1', 'pending')
  await all.store.put(keys.uploadPart(tenant, 'upload_1', 'part_1'), '12345')
  await all.store.put(keys.fileContent('bolt', 'file-x-1'), '123')
  await all.put(keys.usage(tenant), { files: 999, uploads: 999 })
  await all.put(keys.usage('gone'), { files: 7, uploads: 0 })
  all.state.now -= hourMs - 1
  await all.sweep()
  const usage = (id: string) => getJson<StorageUsage>(all.store, keys.usage(id))
  expect(await usage(tenant)).toMatchObject({ files: 10, uploads: 5 })
  expect(await usage('bolt')).toMatchObject({ files: 3, uploads: 0 })
  expect(await usage('gone')).toMatchObject({ files: 0, uploads: 0 })
})

test('a large store is read page by page, and where a planner stops the next goes on', async () => {
  const all = world()
  for (let i = 0; i < 1700; i++) await all.put(keys.caption(tenant, `cap_${i}`))
  all.state.now += 8 * dayMs
  const first = all.begin()
  while (all.objects.keys().length > 1000) await all.tick()
  await first.close()
  const listed = all.state.lists
  expect(await all.sweepState()).toMatchObject({ heartbeat: 0, rule: 'captions' })
  const second = all.begin()
  while (!(await all.sweepState())?.endedAt) await all.tick()
  await second.close()
  expect((await all.sweepState())?.deleted.captions).toBe(1700)
  expect(all.state.listedKeys).toBe(500)
  // The pages that were left, and one of each other kind.
  expect(all.state.lists - listed).toBeLessThanOrEqual(4 + 7)
})

test('of planners, one sweeps; another takes over when it has died', async () => {
  const all = world()
  await all.put(keys.sweep, {
    owner: 'other',
    heartbeat: start,
    startedAt: start,
    rule: 'captions',
    deleted: {},
    deaths: 0,
  })
  const sweeper = all.begin()
  for (let i = 0; i < 20; i++) await all.tick()
  expect((await all.sweepState())?.owner).toBe('other')
  all.state.now += 200_000
  while (!(await all.sweepState())?.endedAt) await all.tick()
  await sweeper.close()
})

test('a page at which three planners died is left out', async () => {
  const all = world()
  await putFile(all, 'file-b', { expires_at: start / 1000 + 3600 })
  const lost = keys.caption(tenant, 'cap_1')
  await all.put(lost)
  all.state.now += 8 * dayMs
  const get: ObjectStore['get'] = (key, ...args) =>
    key === keys.file(tenant, 'file-b') ? new Promise(() => {}) : all.store.get(key, ...args)
  for (let deaths = 0; deaths < 3; deaths++) {
    // It hangs for ever, as a process that has died.
    void all.begin({ store: { ...all.store, get } })
    while ((await all.sweepState())?.rule !== 'files' || (await all.sweepState())?.deaths !== deaths)
      await all.tick()
    for (let i = 0; i < 10; i++) await all.tick()
    all.state.now += 200_000
  }
  const sweeper = all.begin({ store: { ...all.store, get } })
  while (!(await all.sweepState())?.endedAt) await all.tick()
  await sweeper.close()
  expect(all.objects.has(lost)).toBe(false)
  expect(all.objects.has(keys.file(tenant, 'file-b'))).toBe(true)
})

test('it goes on after an outage of the store', async () => {
  const all = world()
  const warnings: string[] = []
  all.state.away = true
  const sweeper = all.begin({
    log: { info: () => {}, warn: (...call: unknown[]) => warnings.push(String(call[1])) },
  })
  for (let i = 0; i < 20; i++) await all.tick()
  all.state.away = false
  while (!(await all.sweepState())?.endedAt) await all.tick()
  await sweeper.close()
  expect(warnings).toEqual(['sweeping the store failed, retrying'])
})
