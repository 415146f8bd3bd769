import type {
  ConsumerConfig,
  ConsumerGroupJoinEvent,
  ConsumerRunConfig,
  EachBatchPayload,
  Consumer as KafkaJsConsumer,
} from 'kafkajs'
import { backoffMs } from '../retry.ts'
import { sleep, valueWithin } from '../timing.ts'
import { GroupMember } from './group-member.ts'
import { connectRetry, explainFailure, type KafkaOptions, protocolErrorType } from './kafka-connection.ts'
import { PartitionProgress } from './kafka-partition.ts'
import { consumedRecord } from './kafka-record.ts'
import { type ConsumedRecord, type ConsumeOptions, type Consumer, StreamUnavailableError } from './stream.ts'

/** The part of a kafkajs consumer that is used. */
export type ConsumerClient = Pick<
  KafkaJsConsumer,
  'connect' | 'disconnect' | 'subscribe' | 'run' | 'seek' | 'on' | 'events'
>

export interface KafkaConsumerOptions extends ConsumeOptions, Pick<KafkaOptions, 'brokers'> {
  /** Partitions of the topic. */
  partitions: number
  /** Time without heartbeats after which a consumer loses its partitions, ms. */
  sessionTimeoutMs?: number
  createClient(config: ConsumerConfig): ConsumerClient
}

const heartbeatMs = 1_000
/** Time that the broker waits for records, ms; a waiting fetch also delays a rebalance. */
const fetchWaitMs = 500
/** Interval of commits: records that finish in between are committed together. */
const commitPauseMs = 100
/** Longest pause before joining again; kafkajs has tried for a while already. */
const rejoinMs = 1_000
/** Time limit for the last commits and for leaving, ms; uncommitted records are delivered again. */
const leaveMs = 5_000
const MiB = 1024 * 1024

/** Errors of a group that rebalances: routine. */
const rebalanceErrors = ['REBALANCE_IN_PROGRESS', 'ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID']

/**
 * Member of a Kafka group that handles many records at once and commits only finished ones. A client that crashes is
 * replaced. The README of this folder explains fetching, rebalances and crashes.
 */
export class KafkaConsumer implements Consumer {
  readonly #options: KafkaConsumerOptions
  readonly #member: GroupMember
  readonly #partitions = new Map<number, PartitionProgress>()
  /** Partitions with records to dispatch, round-robin. */
  readonly #ready = new Set<PartitionProgress>()
  readonly #origins = new Map<ConsumedRecord, PartitionProgress>()
  readonly #running: Promise<void>
  /** No new rounds of commits. */
  readonly #draining = new AbortController()
  readonly #leaving = new AbortController()
  /** Member id at the broker; the same one after a join means that no rebalance was missed. */
  #memberId: string | undefined
  #assigned: ReadonlySet<number> = new Set()
  /** Partition to the time of its assignment, unix ms. */
  readonly #ownedSince = new Map<number, number>()
  #failures = 0
  /** Resolves when everything fetched is dispatched and there is room for more. */
  #room: PromiseWithResolvers<void> | undefined
  #commitOffsets: EachBatchPayload['commitOffsetsIfNecessary'] | undefined
  #committing: Promise<void> | undefined

  constructor(options: KafkaConsumerOptions) {
    this.#options = options
    this.#member = new GroupMember(options, {
      finished: (record) => this.#finish(record),
      hasRoom: () => this.#dispatch(),
      // Uncommitted, so the next owner of the partition gets them.
      release: () => {},
      left: () => this.#leave(),
    })
    this.#running = this.#run()
  }

  get inFlight(): number {
    return this.#member.inFlight
  }

  get full(): boolean {
    return this.#member.full
  }

  close(drainMs?: number): Promise<void> {
    return this.#member.close(drainMs)
  }

  async #run(): Promise<void> {
    while (!this.#leaving.signal.aborted) {
      try {
        await this.#runClient()
      } catch (cause) {
        const message = explainFailure(cause, this.#options)
        this.#options.onError?.(new StreamUnavailableError(message, { cause }))
        await sleep(Math.min(backoffMs(++this.#failures), rejoinMs), this.#leaving.signal)
      }
    }
  }

  /** Runs a client until the group is left; rejects when it has crashed. */
  async #runClient(): Promise<void> {
    const client = this.#createClient()
    const crashed = Promise.withResolvers<void>()
    crashed.promise.catch(() => {})
    client.on(client.events.CRASH, ({ payload }) => crashed.reject(payload.error))
    client.on(client.events.GROUP_JOIN, ({ payload }) => this.#onJoin(client, payload))
    this.#leaving.signal.addEventListener('abort', () => crashed.resolve(), { once: true })
    const joined = this.#join(client)
    try {
      await Promise.race([joined.then(() => crashed.promise), crashed.promise])
    } finally {
      this.#interrupt()
      // kafkajs leaves the group only once it has joined it.
      const left = joined.catch(() => {}).then(() => client.disconnect())
      await valueWithin(leaveMs, Promise.allSettled([left]))
    }
  }

  #interrupt(): void {
    this.#commitOffsets = undefined
    this.#assigned = new Set()
    this.#ready.clear()
    for (const progress of this.#partitions.values()) this.#leavePartition(progress)
  }

  /** Leaves what is not handled yet to the next owner of the partition. */
  #leavePartition(progress: PartitionProgress): void {
    const left = this.#member.leave((record) => this.#origins.get(record) === progress)
    for (const record of left) this.#origins.delete(record)
    progress.interrupt(left.map(({ offset }) => offset))
  }

  #createClient(): ConsumerClient {
    const { group, partitions, sessionTimeoutMs = 10_000, createClient } = this.#options
    return createClient({
      groupId: group,
      sessionTimeout: sessionTimeoutMs,
      heartbeatInterval: heartbeatMs,
      rebalanceTimeout: 30_000,
      maxWaitTimeInMs: fetchWaitMs,
      allowAutoTopicCreation: false,
      retry: { ...connectRetry, restartOnFailure: async () => false },
      ...fetchSizes(partitions),
    })
  }

  async #join(client: ConsumerClient): Promise<void> {
    const { topic, partitions } = this.#options
    const run: ConsumerRunConfig = {
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: partitions,
      eachBatch: (payload) => this.#receive(payload),
    }
    await client.connect()
    // From the beginning: else a group without commits would skip what came while it was away.
    if (!this.#leaving.signal.aborted) await client.subscribe({ topics: [topic], fromBeginning: true })
    if (!this.#leaving.signal.aborted) await client.run(run)
  }

  #onJoin(client: ConsumerClient, { memberId, memberAssignment }: ConsumerGroupJoinEvent['payload']): void {
    const { topic } = this.#options
    const stayed = memberId === this.#memberId
    this.#memberId = memberId
    const before = stayed ? this.#assigned : new Set()
    this.#assigned = new Set(memberAssignment[topic])
    for (const partition of this.#assigned)
      if (!before.has(partition)) this.#ownedSince.set(partition, Date.now())
    this.#failures = 0
    for (const progress of this.#partitions.values()) {
      const { partition, assigned, next } = progress
      progress.assigned = this.#assigned.has(partition)
      if (stayed && assigned && progress.assigned && next !== undefined) {
        client.seek({ topic, partition, offset: String(next) })
      } else {
        this.#leavePartition(progress)
        this.#ready.delete(progress)
      }
    }
    this.#dispatch()
  }

  async #receive({ batch, ...session }: EachBatchPayload): Promise<void> {
    // Fetched before a rebalance: its new owner fetches it again.
    if (session.isStale() || !this.#assigned.has(batch.partition)) return
    this.#commitOffsets = session.commitOffsetsIfNecessary
    const progress = this.#add(batch)
    // Not resolved, so it is fetched again.
    if (!progress) return
    this.#ready.add(progress)
    // The next fetch starts behind it, also when this call fails with the connection.
    session.resolveOffset(batch.lastOffset())
    this.#dispatch()
    this.#commitSoon()
    await this.#untilRoom(session.heartbeat)
  }

  #add({ partition, messages }: EachBatchPayload['batch']): PartitionProgress | undefined {
    const known = this.#partitions.get(partition)
    const added = known?.add(messages)
    if (added === 'taken') return known
    if (added === 'uncertain') return undefined
    if (known) this.#ready.delete(known)
    const progress = new PartitionProgress(partition, BigInt(messages[0]!.offset))
    progress.add(messages)
    this.#partitions.set(partition, progress)
    return progress
  }

  #dispatch(): void {
    while (this.#member.room > 0) {
      const [progress] = this.#ready
      if (!progress) break
      this.#ready.delete(progress)
      const message = progress.take()
      if (progress.waiting > 0) this.#ready.add(progress)
      if (!message) continue
      const { partition } = progress
      const record = consumedRecord(this.#options.topic, partition, message)
      record.ownedSince = this.#ownedSince.get(partition)
      this.#origins.set(record, progress)
      this.#member.take(record)
    }
    if (!this.#hasRoom()) return
    this.#room?.resolve()
    this.#room = undefined
  }

  #hasRoom(): boolean {
    return this.#leaving.signal.aborted || (this.#ready.size === 0 && this.#member.room > 0)
  }

  /** Keeps the membership until there is room; rejects when it is lost. */
  async #untilRoom(heartbeat: () => Promise<void>): Promise<void> {
    if (this.#hasRoom()) return
    this.#room ??= Promise.withResolvers()
    const lost = Promise.withResolvers<never>()
    const beating = setInterval(() => heartbeat().catch(lost.reject), heartbeatMs / 2)
    try {
      await Promise.race([this.#room.promise, lost.promise])
    } finally {
      clearInterval(beating)
    }
  }

  #finish(record: ConsumedRecord): void {
    this.#origins.get(record)?.finish(record.offset)
    this.#origins.delete(record)
    this.#commitSoon()
  }

  #commitSoon(): void {
    if (this.#draining.signal.aborted || this.#uncommitted().length === 0) return
    this.#committing ??= this.#commitInRounds()
  }

  async #commitInRounds(): Promise<void> {
    for (let failures = 0; this.#uncommitted().length > 0 && !this.#draining.signal.aborted; ) {
      await sleep(Math.max(commitPauseMs, failures && backoffMs(failures)), this.#draining.signal)
      failures = (await this.#commit()) ? 0 : failures + 1
    }
    this.#committing = undefined
  }

  #uncommitted(): PartitionProgress[] {
    return [...this.#partitions.values()].filter(({ uncommitted }) => uncommitted !== undefined)
  }

  /** @returns false when the commit failed */
  async #commit(): Promise<boolean> {
    const positions = this.#uncommitted().map((progress) => ({ progress, position: progress.uncommitted! }))
    if (positions.length === 0 || !this.#commitOffsets) return false
    const partitions = positions.map(({ progress, position }) => ({
      partition: progress.partition,
      offset: String(position),
    }))
    try {
      // Not `commitOffsets` of kafkajs: that tries again after a rebalance, also for partitions that have gone.
      await this.#commitOffsets({ topics: [{ topic: this.#options.topic, partitions }] })
      for (const { progress, position } of positions) progress.committed(position)
      return true
    } catch (cause) {
      const message = 'Offset commit failed, retrying. Uncommitted records are delivered again.'
      if (!rebalanceErrors.includes(protocolErrorType(cause) ?? ''))
        this.#options.onError?.(new StreamUnavailableError(message, { cause }))
      return false
    }
  }

  async #leave(): Promise<void> {
    this.#draining.abort()
    await valueWithin(leaveMs, Promise.allSettled([this.#commitLast()]))
    this.#leaving.abort()
    this.#dispatch()
    await this.#running
  }

  async #commitLast(): Promise<void> {
    await this.#committing
    for (let failures = 0; this.#uncommitted().length > 0 && failures < 5; ) {
      if (!(await this.#commit())) await sleep(backoffMs(++failures), this.#leaving.signal)
    }
  }
}

/**
 * Bytes that one fetch brings at most. kafkajs asks for partitions always in the same order, and a broker fills the
 * answer in this order: with less than all partitions can bring, those at the end would get nothing as long as the
 * others are behind. Batches of producers (900 kB) fit into each.
 */
export function fetchSizes(partitions: number): { maxBytesPerPartition: number; maxBytes: number } {
  const maxBytesPerPartition = Math.min(8 * MiB, Math.max(MiB, Math.floor((16 * MiB) / partitions)))
  return { maxBytesPerPartition, maxBytes: partitions * maxBytesPerPartition }
}
