import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { ConsumerGroup, type RecordSource } from './consumer-group.ts'
import { eventually } from './stream.contract.ts'
import type { ConsumedRecord, ConsumeOptions } from './stream.ts'

const options: ConsumeOptions = { topic: 't', group: 'g', maxInFlight: 4, handle: async () => {} }
const oneRecord = [{ partition: 0, position: 0n, end: 1n }]

function recordAt(partition: number, offset: bigint): ConsumedRecord {
  return { topic: 't', partition, offset, timestamp: 0, key: 'k', headers: {}, value: new Uint8Array(0) }
}

/** A source whose partitions have the offsets below `end`, and which notes what is asked of it. */
function fakeSource({ end = 1n, ...overrides }: Partial<RecordSource> & { end?: bigint } = {}) {
  const reads: { partition: number; from: bigint; limit: number }[] = []
  const commits: ReadonlyMap<number, bigint>[] = []
  const source: RecordSource = {
    read: async (partition, from, limit) => {
      reads.push({ partition, from, limit })
      const count = Math.min(limit, Number(end - from))
      return Array.from({ length: count }, (_, i) => recordAt(partition, from + BigInt(i)))
    },
    commit: async (positions) => void commits.push(positions),
    ...overrides,
  }
  return { source, reads, commits }
}

test('fetches no more than there is room for, and takes the partitions in turn', async () => {
  const { source, reads } = fakeSource({ end: 100n })
  const ranges = [0, 1].map((partition) => ({ partition, position: 0n, end: 100n }))
  const group = new ConsumerGroup(source, ranges)
  const gates: (() => void)[] = []
  const handle = () => new Promise<void>((resolve) => gates.push(resolve))
  group.join({ ...options, maxInFlight: 2, handle })
  await eventually(() => expect(gates).toHaveLength(2))
  gates[0]!()
  await eventually(() => expect(gates).toHaveLength(3))
  expect(reads).toEqual([
    { partition: 1, from: 0n, limit: 2 },
    { partition: 0, from: 0n, limit: 1 },
  ])
})

test('fetching pauses at a number of bytes too', async () => {
  const large = { ...recordAt(0, 0n), value: new Uint8Array(60) }
  const { source } = fakeSource({
    read: async (_, from, limit) =>
      Array.from({ length: Math.min(limit, 2) }, (_, i) => ({ ...large, offset: from + BigInt(i) })),
  })
  const group = new ConsumerGroup(source, [{ partition: 0, position: 0n, end: 100n }])
  const gates: (() => void)[] = []
  const handle = () => new Promise<void>((resolve) => gates.push(resolve))
  const consumer = group.join({ ...options, maxInFlight: 50, maxInFlightBytes: 100, handle })
  await eventually(() => expect(consumer.inFlight).toBe(2))
  await nextTurn()
  expect([gates.length, consumer.full]).toEqual([2, true])
  gates[0]!()
  await eventually(() => expect(gates).toHaveLength(3))
  expect(consumer.full).toBe(true)
})

describe('places shared between owners', () => {
  const sharing = { ownerOf: ({ key }: ConsumedRecord) => key, perOwner: 2, waiting: 4 }

  /** A topic with records of these owners, whose handlers end when told. */
  function shared(owners: string[], change: Partial<ConsumeOptions> = {}) {
    const records = owners.map((key, i) => ({ ...recordAt(0, BigInt(i)), key }))
    const { source, commits } = fakeSource({
      read: async (_, from, limit) => records.slice(Number(from), Number(from) + limit),
    })
    const handled: string[] = []
    const ends = new Map<string, () => void>()
    const handle = (record: ConsumedRecord) => {
      const name = `${record.key}${record.offset}`
      handled.push(name)
      return new Promise<void>((resolve) => ends.set(name, resolve))
    }
    const group = new ConsumerGroup(source, [{ partition: 0, position: 0n, end: BigInt(owners.length) }])
    const consumer = group.join({ ...options, maxInFlight: 3, sharing, handle, ...change })
    const end = (name: string) => ends.get(name)!()
    return { handled, end, consumer, commits }
  }

  test('one with many records has its share, and those of others pass them', async () => {
    const { handled, end, commits } = shared(['a', 'a', 'a', 'a', 'a', 'b', 'b'])
    await eventually(() => expect(handled).toEqual(['a0', 'a1', 'b5']))
    end('b5')
    await eventually(() => expect(handled).toEqual(['a0', 'a1', 'b5', 'b6']))
    end('a0')
    end('b6')
    await eventually(() => expect(handled).toEqual(['a0', 'a1', 'b5', 'b6', 'a2']))
    await eventually(() => expect(commits.at(-1)).toEqual(new Map([[0, 1n]])))
  })

  test('no more records are held than are told', async () => {
    const { handled } = shared([...Array<string>(7).fill('a'), 'b'])
    await eventually(() => expect(handled).toEqual(['a0', 'a1']))
  })

  test('the urgent ones of an owner go first', async () => {
    const priorityOf = ({ offset }: ConsumedRecord) => -Number(offset)
    const { handled, end } = shared(['a', 'a', 'a', 'a'], { sharing: { ...sharing, priorityOf } })
    await eventually(() => expect(handled).toHaveLength(2))
    end('a0')
    await eventually(() => expect(handled).toEqual(['a0', 'a1', 'a3']))
  })

  test('a record that waits for its retry leaves its place', async () => {
    const handled: string[] = []
    const handle = async ({ key, offset }: ConsumedRecord) => {
      handled.push(`${key}${offset}`)
      if (offset < 2n) throw new Error('later')
    }
    shared(['a', 'a', 'a', 'a'], { handle })
    await eventually(() => expect(handled.slice(0, 4)).toEqual(['a0', 'a1', 'a2', 'a3']))
  })

  test('a record whose work only waits leaves its place to another, as far as records may be held', async () => {
    const taken: ConsumedRecord[] = []
    const { handled, end, commits } = shared([...Array<string>(7).fill('a'), 'b'], {
      sharing: {
        ...sharing,
        ownerOf: (record) => {
          taken.push(record)
          return record.key
        },
      },
    })
    await eventually(() => expect(handled).toEqual(['a0', 'a1']))
    for (const record of taken.slice(0, 2)) {
      record.leavePlace?.()
      record.leavePlace?.()
    }
    await eventually(() => expect(handled).toEqual(['a0', 'a1', 'a2', 'a3']))
    end('a1')
    end('a0')
    await eventually(() => expect(commits.at(-1)).toEqual(new Map([[0, 2n]])))
    await eventually(() => expect(handled).toContain('b7'))
  })

  test('closing waits for those that are handled, and begins no other', async () => {
    const errors: unknown[] = []
    const { handled, end, consumer, commits } = shared(['a', 'a', 'a', 'a'], {
      onError: (error) => errors.push(error),
    })
    await eventually(() => expect(handled).toHaveLength(2))
    const closed = consumer.close(60_000)
    end('a0')
    end('a1')
    await closed
    expect([handled, errors]).toEqual([['a0', 'a1'], []])
    expect(commits.at(-1)).toEqual(new Map([[0, 2n]]))
  })
})

test('records that finish in one turn are committed together', async () => {
  const { source, commits } = fakeSource({ end: 9n })
  const group = new ConsumerGroup(source, [{ partition: 0, position: 5n, end: 9n }])
  group.join(options)
  await eventually(() => expect(commits).toEqual([new Map([[0, 9n]])]))
})

test('a fetch that fails is told and tried again', async () => {
  const failure = new Error('the disk is gone')
  let reads = 0
  const { source, commits } = fakeSource({
    read: async (partition, from) => {
      if (++reads === 1) throw failure
      return [recordAt(partition, from)]
    },
  })
  const errors: unknown[] = []
  new ConsumerGroup(source, oneRecord).join({ ...options, onError: (error) => errors.push(error) })
  await eventually(() => expect(commits).toEqual([new Map([[0, 1n]])]))
  expect(errors).toEqual([failure])
})

test('a commit that fails is told, and made up for by the next one', async () => {
  const failure = new Error('the disk is full')
  const committed: ReadonlyMap<number, bigint>[] = []
  const { source } = fakeSource({
    end: 2n,
    commit: async (positions) => {
      committed.push(positions)
      if (committed.length === 1) throw failure
    },
  })
  const errors: unknown[] = []
  const group = new ConsumerGroup(source, oneRecord)
  group.join({ ...options, onError: (error) => errors.push(error) })
  await eventually(() => expect(errors).toEqual([failure]))
  group.extend(0, [recordAt(0, 1n)])
  await eventually(() => expect(committed.at(-1)).toEqual(new Map([[0, 2n]])))
})

test('close ends the pause after a failed fetch', async () => {
  const errors: unknown[] = []
  const { source } = fakeSource({ read: () => Promise.reject(new Error('gone')) })
  const group = new ConsumerGroup(source, oneRecord)
  group.join({ ...options, onError: (error) => errors.push(error) })
  await eventually(() => expect(errors).toHaveLength(1))
  await group.close()
  expect(errors).toHaveLength(1)
})

test('what a closing member does not finish goes to another at once', async () => {
  const { source } = fakeSource()
  const group = new ConsumerGroup(source, oneRecord)
  const stuck = group.join({ ...options, handle: () => new Promise(() => {}) })
  await eventually(() => expect(stuck.inFlight).toBe(1))
  const received: bigint[] = []
  group.join({ ...options, handle: async ({ offset }) => void received.push(offset) })
  await stuck.close(0)
  await eventually(() => expect(received).toEqual([0n]))
})

test('a handler that ends after its member closed does not count', async () => {
  const { source, commits } = fakeSource()
  const group = new ConsumerGroup(source, oneRecord)
  let finish = () => {}
  const handle = () =>
    new Promise<void>((resolve) => {
      finish = resolve
    })
  const late = group.join({ ...options, handle })
  await eventually(() => expect(late.inFlight).toBe(1))
  await late.close(0)
  finish()
  await nextTurn()
  expect(late.inFlight).toBe(0)
  expect(commits).toEqual([])
})

test('a record that waits for its next attempt takes the place of another', async () => {
  const { source } = fakeSource({ end: 2n })
  const group = new ConsumerGroup(source, oneRecord)
  const calls: bigint[] = []
  const handle = async ({ offset }: ConsumedRecord) => {
    calls.push(offset)
    throw new Error('not now')
  }
  const consumer = group.join({ ...options, maxInFlight: 1, handle })
  await eventually(() => expect(calls).toHaveLength(1))
  group.extend(0, [recordAt(0, 1n)])
  await nextTurn()
  expect(calls).not.toContain(1n)
  await consumer.close()
})

describe('new records that are announced', () => {
  /** A group that has read all there is, and what it reads and handles. */
  async function caughtUp(overrides: Partial<ConsumeOptions> = {}) {
    const { source, reads, commits } = fakeSource({ end: 11n })
    const group = new ConsumerGroup(source, [{ partition: 0, position: 5n, end: 5n }])
    const handled: ConsumedRecord[] = []
    group.join({ ...options, handle: async (record) => void handled.push(record), ...overrides })
    return { group, reads, commits, handled, offsets: () => handled.map(({ offset }) => offset) }
  }

  test('are handled as they are, without reading them, and committed', async () => {
    const { group, reads, commits, handled } = await caughtUp()
    const sent = [recordAt(0, 5n), recordAt(0, 6n)]
    group.extend(0, sent)
    await eventually(() => expect(commits.at(-1)).toEqual(new Map([[0, 7n]])))
    expect(handled).toEqual(sent)
    expect(reads).toEqual([])
  })

  test('are read when those before them are not known yet, and each is handled once', async () => {
    const { group, reads, offsets } = await caughtUp()
    group.extend(0, [recordAt(0, 6n)])
    group.extend(0, [recordAt(0, 5n)])
    await eventually(() => expect(offsets()).toContain(6n))
    group.extend(0, [recordAt(0, 10n)])
    await eventually(() => expect(offsets()).toContain(10n))
    expect(offsets()).toEqual([5n, 6n, 7n, 8n, 9n, 10n])
    expect(reads[0]).toMatchObject({ from: 5n })
  })

  test('are left in the log while there is no room for them', async () => {
    const gates: (() => void)[] = []
    const handle = () => new Promise<void>((resolve) => gates.push(resolve))
    const { group, reads } = await caughtUp({ maxInFlight: 2, handle })
    group.extend(0, [recordAt(0, 5n), recordAt(0, 6n)])
    group.extend(0, [recordAt(0, 7n)])
    await eventually(() => expect(gates).toHaveLength(2))
    expect(reads).toEqual([])
    gates[0]!()
    await eventually(() => expect(gates).toHaveLength(3))
    expect(reads).toEqual([{ partition: 0, from: 7n, limit: 1 }])
  })
})

test('commits wait for each other, and not for the end of a pause when the last member leaves', async () => {
  const { source, commits } = fakeSource()
  const ranges = [{ partition: 0, position: 0n, end: 0n }]
  const group = new ConsumerGroup(source, ranges, { commitEveryMs: 3_600_000 })
  const consumer = group.join(options)
  group.extend(0, [recordAt(0, 0n)])
  await eventually(() => expect(commits).toEqual([new Map([[0, 1n]])]))
  group.extend(0, [recordAt(0, 1n)])
  await nextTurn()
  expect(commits).toHaveLength(1)
  await consumer.close()
  expect(commits).toEqual([new Map([[0, 1n]]), new Map([[0, 2n]])])
})
