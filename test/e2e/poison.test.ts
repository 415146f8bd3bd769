import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { newBatch, type StoredBatch } from '../../edge/contract/batch.ts'
import type { StoredFile } from '../../edge/contract/file.ts'
import { keys } from '../../edge/contract/keys.ts'
import { openDirectoryStore } from '../../infra/store/directory.ts'
import { getBytes, getJson, type ObjectStore } from '../../infra/store/store.ts'
import { temporaryFolder } from './turbine.ts'

const tenant = 'acme'

/** Makes a batch of these images, as the edge does. */
async function createBatch(store: ObjectStore, id: string, images: string[]): Promise<void> {
  const text = images.map((image) => `https://example.com/${image}.jpg\n`).join('')
  const file = `file-${id}`
  const key = keys.fileContent(tenant, file)
  await store.put(key, text)
  const stored = { file: { id: file }, slices: [{ key, start: 0, end: text.length }] }
  await store.put(keys.file(tenant, file), JSON.stringify(stored))
  const created_at = Math.floor(Date.now() / 1000)
  const batch: StoredBatch = {
    tenant,
    batch: newBatch({
      ...{ id, endpoint: '/v1/captions', model: 'fake', input_file_id: file, completion_window: '24h' },
      ...{ created_at, expires_at: created_at + 86_400, metadata: null, turbine: { max_prune: 1 } },
    }),
  }
  await store.put(keys.batch(tenant, id), JSON.stringify(batch))
  await store.put(keys.openBatch(tenant, id), JSON.stringify({ tenant, batch: id }))
}

/** Starts the process again whenever it dies. @returns how often it died */
async function runUntilOver(dataDir: string, batches: string[]): Promise<number> {
  for (let deaths = 0; deaths < 10; deaths++) {
    const script = join(import.meta.dirname, 'poison-process.ts')
    const child = spawn(process.execPath, [script, dataDir, ...batches], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const [code] = await once(child, 'exit')
    if (code === 0) return deaths
    expect(code).toBeNull()
  }
  return 10
}

async function world(batches: Record<string, string[]>) {
  const dataDir = await temporaryFolder()
  const store = await openDirectoryStore(join(dataDir, 'store'))
  for (const [id, images] of Object.entries(batches)) await createBatch(store, id, images)
  const deaths = await runUntilOver(dataDir, Object.keys(batches))
  const batchOf = async (id: string) => (await getJson<StoredBatch>(store, keys.batch(tenant, id)))!.batch
  const linesOf = async (file: string | null) => {
    const stored = await getJson<StoredFile>(store, keys.file(tenant, file!))
    const text = new TextDecoder().decode(await getBytes(store, stored!.slices[0]!.key))
    return text.trimEnd().split('\n')
  }
  return { deaths, batchOf, linesOf }
}

const images = (count: number) => Array.from({ length: count }, (_, i) => `image-${i}`)

test('a batch that kills the planner fails after three deaths of a real process; another completes', async () => {
  const { deaths, batchOf } = await world({ batch_1: images(3), batch_poison: images(3), batch_3: images(3) })
  expect(deaths).toBe(3)
  expect(await batchOf('batch_poison')).toMatchObject({ status: 'failed' })
  expect((await batchOf('batch_poison')).errors?.data[0]).toMatchObject({
    code: 'batch_crashed',
    message: expect.stringContaining('crashed 3 times'),
  })
  for (const id of ['batch_1', 'batch_3']) expect((await batchOf(id)).status).toBe('completed')
})

test('an image that kills the processor fails its shard alone, after as few deaths', async () => {
  const { deaths, batchOf, linesOf } = await world({
    batch_1: [...images(3), 'poison'],
    batch_2: images(300),
    batch_3: images(300),
  })
  // Two alone; before them one that left no mark, and on a busy machine those that it had company at.
  expect(deaths).toBeLessThanOrEqual(6)
  const guilty = await batchOf('batch_1')
  expect(guilty.request_counts).toEqual({ total: 4, completed: 0, failed: 4 })
  expect((await linesOf(guilty.error_file_id))[3]).toContain('shard_failed')
  for (const id of ['batch_2', 'batch_3'])
    expect((await batchOf(id)).request_counts).toEqual({ total: 300, completed: 300, failed: 0 })
})
