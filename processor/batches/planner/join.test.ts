import { expect, test } from 'vitest'
import { keys } from '../../../edge/contract/keys.ts'
import { emptyTally, encodeShard } from '../../../edge/contract/shard.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import { type ObjectStore, StoreUnavailableError } from '../../../infra/store/store.ts'
import { listShards, readShardParts, ShardObjectError } from '../shard/results.ts'
import { joinShards } from './join.ts'

const ref = { tenant: 'acme', batch: 'batch_1' }
const { signal } = new AbortController()

async function* numbers(count: number) {
  for (let shard = 0; shard < count; shard++) yield shard
}

/** Shards of two output lines and, in every third, an error line. */
async function putShards(store: ObjectStore, count: number) {
  for (let shard = 0; shard < count; shard++) {
    const tally = { ...emptyTally, completed: 2, failed: shard % 3 === 0 ? 1 : 0 }
    const object = encodeShard(tally, [`a${shard}`, `b${shard}`], shard % 3 === 0 ? [`e${shard}`] : [])
    await store.put(keys.batchShard(ref.tenant, ref.batch, shard), object)
  }
}

const join = (store: ObjectStore, count: number, into = store) =>
  joinShards({
    shards: numbers(count),
    read: (shard) => readShardParts(store, ref, shard),
    output: { store: into, key: 'output' },
    errors: { store: into, key: 'errors' },
    signal,
  })

const textOf = async (store: ObjectStore, key: string) => new Response((await store.get(key))?.body).text()

test('puts shards together in their order', async () => {
  const { store } = memoryStore()
  await putShards(store, 50)
  const joined = await join(store, 50)
  expect(joined.tally).toMatchObject({ completed: 100, failed: 17 })
  const output = Array.from({ length: 50 }, (_, i) => `a${i}\nb${i}\n`).join('')
  const errors = Array.from({ length: 17 }, (_, i) => `e${3 * i}\n`).join('')
  expect(await textOf(store, 'output')).toBe(output)
  expect(await textOf(store, 'errors')).toBe(errors)
  expect(joined).toMatchObject({ outputBytes: output.length, errorBytes: errors.length })
})

test('writes no empty file', async () => {
  const { store, objects } = memoryStore()
  await store.put(keys.batchShard(ref.tenant, ref.batch, 0), encodeShard(emptyTally, [], ['e']))
  await join(store, 1)
  expect([objects.has('output'), objects.has('errors')]).toEqual([false, true])
})

test('reads no further ahead than memory allows', async () => {
  const { store } = memoryStore()
  await putShards(store, 100)
  let read = 0
  let written = 0
  let furthest = 0
  const slow: Pick<ObjectStore, 'put'> = {
    async put(_, body) {
      for await (const _piece of body as ReadableStream<Uint8Array>) {
        written++
        furthest = Math.max(furthest, read - written)
        await new Promise((resolve) => setImmediate(resolve))
      }
      return { etag: '1' }
    },
  }
  await joinShards({
    shards: numbers(100),
    read: (shard) => {
      read++
      return readShardParts(store, ref, shard)
    },
    output: { store: slow, key: 'output' },
    errors: { store, key: 'errors' },
    signal,
  })
  expect(written).toBe(100)
  expect(furthest).toBeLessThan(40)
})

test('leaves nothing when it fails, whichever side fails', async () => {
  const { store, objects } = memoryStore()
  await putShards(store, 10)
  await expect(join(store, 11)).rejects.toThrow(ShardObjectError)
  const refusing: Pick<ObjectStore, 'put'>['put'] = async () => {
    throw new StoreUnavailableError('no')
  }
  await expect(join(store, 10, { ...store, put: refusing })).rejects.toThrow(StoreUnavailableError)
  const stopping: Pick<ObjectStore, 'put'>['put'] = async (_, body) => {
    await (body as ReadableStream).cancel()
    throw new StoreUnavailableError('enough')
  }
  await expect(join(store, 10, { ...store, put: stopping })).rejects.toThrow(StoreUnavailableError)
  expect([objects.has('output'), objects.has('errors')]).toEqual([false, false])
})

test('tells why the store gave up between the last piece and the end', async () => {
  const { store } = memoryStore()
  await putShards(store, 1)
  const late: Pick<ObjectStore, 'put'>['put'] = async (_, body) => {
    const reader = (body as ReadableStream<Uint8Array>).getReader()
    await reader.read()
    const more = reader.read()
    await reader.cancel()
    await more
    throw new StoreUnavailableError('a part was lost')
  }
  await expect(join(store, 1, { ...store, put: late })).rejects.toThrow(StoreUnavailableError)
})

test('refuses an object that is not whole', async () => {
  const { store } = memoryStore()
  const whole = encodeShard(emptyTally, ['a line'], [])
  await store.put(keys.batchShard(ref.tenant, ref.batch, 0), whole.subarray(0, whole.length - 1))
  await expect(join(store, 1)).rejects.toThrow(ShardObjectError)
})

test('lists the shards from one on', async () => {
  const { store } = memoryStore()
  await putShards(store, 12)
  const listed = []
  for await (const shard of listShards(store, ref, 9)) listed.push(shard)
  expect(listed).toEqual([9, 10, 11])
})
