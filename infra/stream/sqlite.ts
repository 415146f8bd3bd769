import { dirname } from 'node:path'
import { makePrivateDirectory, makePrivateFile } from '../durable.ts'
import { ConsumerGroup } from './consumer-group.ts'
import { partitionOf } from './partition.ts'
import { SqliteLogClient } from './sqlite-log-client.ts'
import {
  type ConsumedRecord,
  type ConsumeOptions,
  type Consumer,
  type GroupState,
  type SendOptions,
  type Stream,
  StreamOpenError,
  type StreamRecord,
  StreamUnavailableError,
  type TopicOptions,
  UnknownTopicError,
} from './stream.ts'

export interface SqliteStreamOptions {
  /** The stream's file; its folder is created. One process at a time can open it. */
  path: string
  /** Default retention of records that every group has committed, ms. */
  retentionMs?: number
  /** Interval at which records past their retention are deleted, ms. */
  pruneIntervalMs?: number
  /** Clock, unix ms. */
  now?: () => number
}

/** Positions are written at most this often, ms: what is behind them after the death of the process is found to be done. */
const commitEveryMs = 20

/**
 * Values up to this size are shared by the consumers and the log's thread; of larger ones the thread gets a copy. The garbage
 * collector does not count what is shared, so that is to be little, bytes.
 */
const sharedBytes = 16 * 1024

/** Bytes of values that one fetch reads at most (and one record more). */
const fetchBytes = 8 * 1024 * 1024

/**
 * Opens the job stream of one machine, in a SQLite file. `send` resolves when the records are synced to the disk; sends
 * that arrive while another is written share the next sync. Delivery is immediate.
 *
 * @throws StreamOpenError when another process has the file, or it cannot be opened.
 * @example
 * const stream = await openSqliteStream({ path: '.turbine/stream.db' })
 * await stream.ensureTopics({ jobs: { partitions: 4 } })
 * await stream.send('jobs', [{ key: 'a', value: bytes, headers: {} }])
 */
export async function openSqliteStream(options: SqliteStreamOptions): Promise<Stream> {
  const { path, retentionMs = 60_000, pruneIntervalMs = 5_000, now = Date.now } = options
  await makePrivateDirectory(dirname(path)).catch((error: Error) => {
    throw new StreamOpenError(
      `${dirname(path)} cannot be created (${error.message}). Use another TURBINE_DATA_DIR.`,
    )
  })
  // SQLite gives its other files the mode of this one, and says what is wrong with a path.
  await makePrivateFile(path).catch(() => {})
  const log = await SqliteLogClient.open(path)
  return new SqliteStream(log, await log.call('topics', undefined), { retentionMs, pruneIntervalMs, now })
}

class SqliteStream implements Stream {
  readonly #log: SqliteLogClient
  readonly #settings: Required<Omit<SqliteStreamOptions, 'path'>>
  /** Groups by topic and name. New records may be announced while a group still opens. */
  readonly #groups = new Map<string, { topic: string; opened: Promise<ConsumerGroup> }>()
  readonly #pruning: NodeJS.Timeout
  /** Topic to its number of partitions. */
  #partitions: Map<string, number>
  #closed: Promise<void> | undefined

  constructor(
    log: SqliteLogClient,
    partitions: Map<string, number>,
    settings: Required<Omit<SqliteStreamOptions, 'path'>>,
  ) {
    this.#log = log
    this.#partitions = partitions
    this.#settings = settings
    // The next send meets the failure too, and reports it.
    const prune = () => log.call('prune', { now: settings.now() }).catch(() => {})
    this.#pruning = setInterval(prune, settings.pruneIntervalMs).unref()
  }

  async ensureTopics(topics: Record<string, TopicOptions>): Promise<void> {
    const { retentionMs } = this.#settings
    const entries = Object.entries(topics).map(([topic, options]) => {
      return [topic, { partitions: options.partitions, retentionMs: options.retentionMs ?? retentionMs }]
    })
    this.#partitions = await this.#log.call('ensureTopics', Object.fromEntries(entries))
    for (const [topic, { groups = [] }] of Object.entries(topics)) {
      for (const group of groups) await this.#log.call('join', { topic, group })
    }
  }

  async send(topic: string, records: StreamRecord[], { signal, unsynced }: SendOptions = {}): Promise<void> {
    this.#assertOpen()
    signal?.throwIfAborted()
    const partitions = this.#partitionsOf(topic)
    if (records.length === 0) return
    const timestamp = this.#settings.now()
    const sent = records.map(({ key, value, headers }) => ({
      partition: partitionOf(key, partitions),
      timestamp,
      key,
      headers,
      // The given bytes are the sender's.
      value: value.byteLength <= sharedBytes ? sharedCopy(value) : new Uint8Array(value),
    }))
    const rows = sent.map((record) => ({
      ...record,
      headers: JSON.stringify(record.headers),
      value: record.value.byteLength <= sharedBytes ? record.value : new Uint8Array(record.value),
    }))
    const moving = rows.flatMap(({ value: { buffer } }) => (buffer instanceof ArrayBuffer ? [buffer] : []))
    const ends = await this.#log.call('append', { topic, records: rows, unsynced }, moving)
    const extend = (group: ConsumerGroup) => {
      for (const { partition, end } of ends) {
        const own = sent.filter((record) => record.partition === partition)
        const first = BigInt(end - own.length)
        group.extend(
          partition,
          own.map((record, index) => ({ ...record, topic, offset: first + BigInt(index) })),
        )
      }
    }
    for (const group of this.#groups.values()) {
      // A group that could not be opened has no consumers, and the call that wanted one has the error.
      if (group.topic === topic) group.opened.then(extend, () => {})
    }
  }

  async sync(): Promise<void> {
    this.#assertOpen()
    // Durable like all, with nothing in it.
    await this.#log.call('append', { topic: '', records: [] })
  }

  async consume(options: ConsumeOptions): Promise<Consumer> {
    this.#assertOpen()
    const { topic, group } = options
    this.#partitionsOf(topic)
    const id = groupId(topic, group)
    const known = this.#groups.get(id) ?? { topic, opened: openGroup(this.#log, topic, group) }
    this.#groups.set(id, known)
    try {
      return (await known.opened).join(options)
    } catch (error) {
      this.#groups.delete(id)
      throw error
    }
  }

  async lag(topic: string, group: string): Promise<number> {
    this.#partitionsOf(topic)
    return (await this.#log.call('counts', { topic, group })).lag
  }

  async groupState(topic: string, group: string): Promise<GroupState> {
    const partitions = this.#partitionsOf(topic)
    const counts = await this.#log.call('counts', { topic, group })
    const members = (await this.#groups.get(groupId(topic, group))?.opened)?.size ?? 0
    return { ...counts, partitions, members }
  }

  async peek(topic: string, group: string, limit: number): Promise<ConsumedRecord[]> {
    this.#partitionsOf(topic)
    const ranges = await this.#log.call('join', { topic, group })
    const reads = ranges.map(({ partition, position }) =>
      readRecords(this.#log, topic, { partition, from: position, limit }),
    )
    return (await Promise.all(reads)).flat()
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    clearInterval(this.#pruning)
    await Promise.all([...this.#groups.values()].map(async ({ opened }) => (await opened).close()))
    await this.#log.close()
  }

  #partitionsOf(topic: string): number {
    const partitions = this.#partitions.get(topic)
    if (partitions === undefined)
      throw new UnknownTopicError(`Unknown topic "${topic}". Create it with ensureTopics first.`)
    return partitions
  }

  #assertOpen(): void {
    if (this.#closed) throw new StreamUnavailableError('The job stream is closed.')
  }
}

function sharedCopy(bytes: Uint8Array): Uint8Array<SharedArrayBuffer> {
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.byteLength))
  shared.set(bytes)
  return shared
}

const groupId = (topic: string, group: string) => JSON.stringify([topic, group])

async function openGroup(log: SqliteLogClient, topic: string, group: string): Promise<ConsumerGroup> {
  const ranges = await log.call('join', { topic, group })
  const source = {
    read: (partition: number, from: bigint, limit: number) =>
      readRecords(log, topic, { partition, from: Number(from), limit }),
    commit: (committed: ReadonlyMap<number, bigint>) => {
      const positions = [...committed].map(([partition, position]) => ({
        partition,
        position: Number(position),
      }))
      return log.call('commit', { topic, group, positions })
    },
  }
  return new ConsumerGroup(
    source,
    ranges.map(({ partition, position, end }) => ({
      partition,
      position: BigInt(position),
      end: BigInt(end),
    })),
    { commitEveryMs },
  )
}

async function readRecords(
  log: SqliteLogClient,
  topic: string,
  range: { partition: number; from: number; limit: number },
): Promise<ConsumedRecord[]> {
  const records = await log.call('read', { topic, ...range, maxBytes: fetchBytes })
  return records.map(({ offset, headers, ...record }) => ({
    ...record,
    topic,
    offset: BigInt(offset),
    headers: JSON.parse(headers),
  }))
}
