import { afterEach } from 'vitest'
import { type Batch, isFinal, newBatch, type StoredBatch } from '../../../edge/contract/batch.ts'
import type { StoredFile } from '../../../edge/contract/file.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { decodeControl, decodeShardJob, encodeControl } from '../../../edge/contract/shard.ts'
import type { Grant } from '../../../edge/contract/tenant.ts'
import { topics } from '../../../edge/contract/topics.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import { readSlices } from '../../../infra/store/slices.ts'
import { getJson, type ObjectStore, StoreUnavailableError } from '../../../infra/store/store.ts'
import { type StreamRecord, StreamUnavailableError } from '../../../infra/stream/stream.ts'
import { Outages, type PlannerLog } from '../../delivery/outages.ts'
import { Coordinator } from './coordinator.ts'
import type { StoredProgress } from './lease.ts'
import { TestProcessors } from './processors.fixture.ts'
import { VirtualClock } from './virtual-clock.fixture.ts'

const tenant = 'acme'

const started: TestPlanner[] = []
afterEach(() => {
  for (const planner of started.splice(0)) planner.kill()
})

/** Starts a planner that ends with the test. */
export function start(world: PlannerWorld): TestPlanner {
  const planner = world.startPlanner()
  started.push(planner)
  return planner
}

/** A line of a result file, as far as tests look at it. */
export interface WorldLine {
  custom_id: string
  response: { body: { turbine: { prune_level: number; repaid?: boolean } } } | null
  error: { code: string } | null
}

/** A planner that can be killed at any moment. */
export interface TestPlanner {
  coordinator: Coordinator
  /** From now on nothing that it does has an effect, and nothing that it waits for comes. */
  kill(): void
  /** Kills it at its `count`th call of the store or the stream from now on. */
  killAfter(count: number): void
  /** Kills it at its first call that matches, each as `put some/key`. */
  killAt(calls: RegExp): void
  /** From now on its calls that match, each as `put some/key`, wait until it resumes. */
  stallAt(calls: RegExp): void
  resume(): void
  readonly dead: boolean
}

/** Everything around planners, in memory: a store, a stream, processors, and a clock that stands still. */
export class PlannerWorld {
  readonly clock = new VirtualClock()
  readonly memory = memoryStore()
  /** Other buckets. */
  readonly buckets = new Map<string, ReturnType<typeof memoryStore>>()
  /** Records that no processor has taken. */
  jobs: StreamRecord[] = []
  /** Where planners and processors have sent records, in order. */
  readonly topics: string[] = []
  /** Whether a model has topics of its own. */
  ownTopics = (_model: string): boolean => false
  /** Records that no planner has heard. */
  control: StreamRecord[] = []
  readonly logged: { level: string; message: string }[] = []
  /** Calls of planners, each as `get some/key`, when they were answered. */
  readonly calls: string[] = []
  storeIsAway = false
  streamIsAway = false
  /** Calls of the store that match it are never answered, nor done. */
  hung: RegExp | undefined
  /** Whether planners have pruned lines captioned again. */
  repay = false
  /** What the store answers to planners in place of lists, if anything. */
  listFault: Error | undefined
  #planners = 0
  #batches = 0

  readonly processors = new TestProcessors(this.memory.store, this.clock, (name) => this.bucket(name))

  /** The store as everybody sees it. */
  readonly store = this.#flaky(this.memory.store)

  bucket(name: string): ObjectStore {
    const bucket = this.buckets.get(name) ?? memoryStore({ asBucket: true })
    this.buckets.set(name, bucket)
    return bucket.store
  }

  readonly #send = async (topic: string, records: StreamRecord[]): Promise<void> => {
    if (this.streamIsAway) throw new StreamUnavailableError('The stream is away.')
    this.topics.push(topic)
    if (topic.startsWith(topics.batch)) this.jobs.push(...records)
    else this.control.push(...records)
  }

  /** Starts a planner; it looks through the open batches at once and then every few seconds. */
  startPlanner(): TestPlanner {
    const life = { calls: Number.POSITIVE_INFINITY, stallAt: /^$/, killAt: /^$/ }
    const resumed = Promise.withResolvers<void>()
    const isDead = () => life.calls <= 0
    const forever = new Promise<never>(() => {})
    const mortal = async <T>(call: () => Promise<T>, name: string): Promise<T> => {
      if (life.killAt.test(name)) life.calls = 0
      if (isDead()) return forever
      if (life.stallAt.test(name)) await resumed.promise
      // The last call happens, but nobody learns of it.
      life.calls--
      const result = await call().catch((error: unknown) => (isDead() ? forever : Promise.reject(error)))
      return isDead() ? forever : result
    }
    const store = wrap(this.store, mortal)
    const coordinator = new Coordinator({
      store,
      buckets: (name) => wrap(this.bucket(name), mortal),
      stream: { send: (topic, records) => mortal(() => this.#send(topic, records), `send ${topic}`) },
      clock: this.clock,
      outages: new Outages({ clock: this.clock, log: this.log }),
      owner: `planner-${++this.#planners}`,
      log: this.log,
      repay: this.repay,
      ownTopics: async (model) => this.ownTopics(model),
    })
    coordinator.start()
    return {
      coordinator,
      kill: () => {
        life.calls = 0
      },
      killAfter: (count) => {
        life.calls = count
      },
      killAt: (calls) => {
        life.killAt = calls
      },
      stallAt: (calls) => {
        life.stallAt = calls
      },
      resume: () => resumed.resolve(),
      get dead() {
        return isDead()
      },
    }
  }

  readonly log: PlannerLog = {
    info: (_, message) => void this.logged.push({ level: 'info', message }),
    warn: (_, message) => void this.logged.push({ level: 'warn', message }),
    error: ({ err }, message) => void this.logged.push({ level: 'error', message: `${message}: ${err}` }),
  }

  /** What was told that is no matter of course. */
  get troubles(): string[] {
    return this.logged.filter(({ level }) => level !== 'info').map(({ message }) => message)
  }

  /** Makes a batch as the edge does, of a file with this text unless an `input_uri` is given. */
  async createBatch(text: string, change: Partial<Batch> = {}): Promise<string> {
    const number = ++this.#batches
    const id = `batch_${number}`
    const file = `file-${number}`
    const uri = change.turbine?.input_uri
    if (uri === undefined) await this.putFile(file, text)
    const created_at = Math.floor(this.clock.now() / 1000)
    const stored: StoredBatch = {
      tenant,
      batch: {
        ...newBatch({
          id,
          endpoint: '/v1/captions',
          model: 'm',
          input_file_id: uri === undefined ? file : null,
          completion_window: '24h',
          created_at,
          expires_at: created_at + 24 * 3600,
          metadata: null,
          turbine: { max_prune: 1 },
        }),
        ...change,
      },
    }
    if (uri ?? change.turbine?.output_uri) await this.grant()
    await this.memory.store.put(keys.batch(tenant, id), JSON.stringify(stored))
    await this.memory.store.put(keys.openBatch(tenant, id), JSON.stringify({ tenant, batch: id }))
    this.control.push(encodeControl({ type: 'batch_created', tenant, batch: id }))
    return id
  }

  /** Sets what the tenant is granted; default: all that batches name here. */
  async grant(grants: Grant[] = everyGrant): Promise<void> {
    await this.memory.store.put(keys.tenant(tenant), JSON.stringify({ id: tenant, grants }))
  }

  async putFile(id: string, text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text)
    const key = keys.fileContent(tenant, id)
    await this.memory.store.put(key, bytes)
    const stored: StoredFile = {
      file: {
        id,
        object: 'file',
        bytes: bytes.length,
        created_at: 0,
        filename: 'input.jsonl',
        purpose: 'batch',
        status: 'processed',
      },
      slices: [{ key, start: 0, end: bytes.length }],
    }
    await this.memory.store.put(keys.file(tenant, id), JSON.stringify(stored))
  }

  async cancelBatch(batch: string, { silently = false } = {}): Promise<void> {
    const cancelling_at = Math.floor(this.clock.now() / 1000)
    await this.memory.store.put(keys.batchCancel(tenant, batch), JSON.stringify({ cancelling_at }))
    if (!silently) this.control.push(encodeControl({ type: 'batch_cancelled', tenant, batch }))
  }

  async batch(id: string): Promise<Batch> {
    return (await getJson<StoredBatch>(this.memory.store, keys.batch(tenant, id)))!.batch
  }

  /** What a planner keeps of a batch; undefined when it is cleaned up. */
  progress(id: string): Promise<StoredProgress | undefined> {
    return getJson(this.memory.store, keys.batchProgress(tenant, id))
  }

  /** Lets a planner hear what the stream has for it. */
  deliver({ coordinator }: TestPlanner, records = this.control.splice(0)): void {
    for (const record of records) coordinator.handle(decodeControl(record))
  }

  /** Runs shards as processors do, at most `count`. */
  async process(count = Number.POSITIVE_INFINITY): Promise<void> {
    for (const record of this.jobs.splice(0, count)) {
      const done = await this.processors.handle(decodeShardJob(record))
      if (done) this.control.push(encodeControl(done))
    }
  }

  /** Lets processors and a planner work until the batch is over, and is cleaned up. */
  async finish(planner: TestPlanner, id: string, { limitMs = 3_600_000 } = {}): Promise<Batch> {
    const isOver = async () => {
      await this.process(8)
      this.deliver(planner)
      return isFinal((await this.batch(id)).status)
    }
    await this.clock.until(isOver, { limitMs })
    await this.clock.advance(2_000)
    return this.batch(id)
  }

  /** The `custom_id`s of a file, in its order. */
  async customIds(file: string | null): Promise<string[]> {
    return (await this.fileLines(file)).map(({ custom_id }) => custom_id)
  }

  /** The lines of a file, parsed; none when there is no such file. */
  async fileLines(id: string | null): Promise<WorldLine[]> {
    const stored =
      id === null ? undefined : await getJson<StoredFile>(this.memory.store, keys.file(tenant, id))
    if (!stored) return []
    const parts: Uint8Array[] = []
    for await (const part of readSlices(stored.slices, this.#stores)) parts.push(part)
    const text = Buffer.concat(parts).toString()
    if (Buffer.byteLength(text) !== stored.file.bytes) throw new Error('The file has another length.')
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
  }

  get #stores() {
    return { store: this.memory.store, buckets: (name: string) => this.bucket(name) }
  }

  #flaky(store: ObjectStore): ObjectStore {
    return wrap(store, async (call, name) => {
      if (this.hung?.test(name)) return new Promise<never>(() => {})
      if (this.storeIsAway) throw new StoreUnavailableError('The store is away.')
      if (this.listFault && name.startsWith('list ')) throw this.listFault
      const result = await call()
      this.calls.push(name)
      return result
    })
  }
}

/** The same store, each of its calls made by `via`. */
function wrap(store: ObjectStore, via: <T>(call: () => Promise<T>, name: string) => Promise<T>): ObjectStore {
  return {
    put: (key, ...args) => via(() => store.put(key, ...args), `put ${key}`),
    get: (key, ...args) => via(() => store.get(key, ...args), `get ${key}`),
    head: (key) => via(() => store.head(key), `head ${key}`),
    delete: (key) => via(() => store.delete(key), `delete ${key}`),
    list: (prefix, ...args) => via(() => store.list(prefix, ...args), `list ${prefix}`),
    close: () => store.close(),
  }
}

const everyGrant: Grant[] = [
  { uri: 's3://pictures/', access: 'read' },
  { uri: 's3://results/', access: 'write' },
]

/** A manifest of short lines `a-1`, `a-2`, ... */
export const manifestOf = (lines: number, name = 'a') =>
  Array.from(
    { length: lines },
    (_, i) => `{"custom_id":"${name}-${i + 1}","image_url":"https://example.com/${i + 1}.jpg"}\n`,
  ).join('')

/** The ids that `manifestOf` gives. */
export const idsOf = (lines: number, name = 'a') =>
  Array.from({ length: lines }, (_, i) => `${name}-${i + 1}`)
