import { BaseError } from '../errors.ts'
/** Record to send. Headers are short strings; the value is opaque bytes. */
export interface StreamRecord {
  /** Decides the partition; records of one key keep their order. */
  key: string
  value: Uint8Array
  headers: Record<string, string>
}

/** Record as a consumer gets it. `timestamp` is unix ms, set when the stream accepted it. */
export interface ConsumedRecord extends StreamRecord {
  /**
   * Time since which this consumer has the partition, unix ms: another one may have handled earlier records. Absent: since
   * the start of the process.
   */
  ownedSince?: number
  /**
   * Leaves its place among the records that are handled to another one, while it goes on: for work that only waits. It
   * still counts as held. Absent without `sharing`.
   */
  leavePlace?(): void
  topic: string
  partition: number
  offset: bigint
  timestamp: number
}

export interface TopicOptions {
  partitions: number
  /** Records older than this may be dropped once every group has committed them, ms. */
  retentionMs?: number
  /** Maximum bytes of a record, or of records sent together; default: the broker's. */
  maxMessageBytes?: number
  /** Groups that start at the topic's first record, whenever their first consumer joins. */
  groups?: string[]
}

export interface SendOptions {
  /** Once aborted, the stream may or may not have the records. */
  signal?: AbortSignal
  /**
   * The records survive the death of the process, and a loss of power only after `sync`: for what nobody would miss then.
   * A stream for which that saves nothing ignores it.
   */
  unsynced?: boolean
}

/** Shares the places of a consumer between the owners of records, e.g. tenants. */
export interface Sharing {
  ownerOf(record: ConsumedRecord): string
  /** Maximum records of one owner handled concurrently. */
  perOwner: number
  /** Maximum records held beside those being handled: so far ahead another owner's record is found. */
  waiting: number
  /** The lowest of an owner is handled first; default: in the order of the stream. */
  priorityOf?(record: ConsumedRecord): number
}

export interface ConsumeOptions {
  topic: string
  /** Each record of the topic is handled by one consumer of each group. */
  group: string
  /** Maximum records handled concurrently, over all partitions; fetching pauses there. */
  maxInFlight: number
  /** Bytes of the values of records handled concurrently, from which on fetching pauses. Default: any. */
  maxInFlightBytes?: number
  /** Default: first come, first served. With it, a record that waits for its retry leaves its place to others. */
  sharing?: Sharing
  /**
   * Handles one record, concurrently with others, in any order. Its offset is committed after the promise fulfils and
   * every earlier record of the partition is finished too. After a rejection the record is delivered again, with a
   * backoff from 100 ms to 10 s, and nothing behind it is committed meanwhile.
   * A handler can run twice for one record (a crash before the commit), so it must be idempotent.
   */
  handle(record: ConsumedRecord, signal: AbortSignal): Promise<void>
  /** Receives errors that the consumer handles itself (a rejected handler, a lost connection). */
  onError?(error: unknown): void
}

export interface Consumer {
  readonly inFlight: number
  /** Fetching pauses: as many records, or bytes, are handled as may be. */
  readonly full: boolean
  /**
   * Stops fetching, waits at most `drainMs` for the handlers that run, commits what is finished and leaves the
   * group. What is not finished by then is delivered again to the next consumer; `signal` of its handler aborts.
   */
  close(drainMs?: number): Promise<void>
}

/** State of a consumer group in a topic. */
export interface GroupState {
  /** Records that the group has not committed yet. */
  lag: number
  /** Records ever appended to the topic: its growth is the arrival rate. */
  taken: number
  /** Consumers that share the topic. */
  members: number
  /** Further members are idle. */
  partitions: number
}

/**
 * The job stream: topics with partitions, consumer groups with committed offsets, at-least-once delivery.
 * Implemented by SQLite on one machine and by Kafka in a fleet.
 */
export interface Stream {
  /** Creates what is missing; a topic that exists keeps its partitions. */
  ensureTopics(topics: Record<string, TopicOptions>): Promise<void>
  /**
   * Resolves when the stream has all records durably; rejects when it may not have them.
   * @throws StreamUnavailableError (retriable) when it cannot take them now; UnknownTopicError; RecordTooLargeError
   */
  send(topic: string, records: StreamRecord[], options?: SendOptions): Promise<void>
  /** Resolves when what was sent unsynced survives a loss of power. Absent where nothing is sent so. */
  sync?(): Promise<void>
  consume(options: ConsumeOptions): Promise<Consumer>
  /** Records of the topic that the group has not committed yet. */
  lag(topic: string, group: string): Promise<number>
  /** Lag and members of the group, over all processes of the fleet. */
  groupState(topic: string, group: string): Promise<GroupState>
  /** The first records that the group has not committed yet, at most `limit` of each partition; commits nothing. */
  peek(topic: string, group: string, limit: number): Promise<ConsumedRecord[]>
  close(): Promise<void>
}

export class StreamUnavailableError extends BaseError {
  override readonly retriable = true
}

/** A topic was used before `ensureTopics` created it. */
export class UnknownTopicError extends BaseError {}

/** The record is larger than its topic allows. */
export class RecordTooLargeError extends BaseError {}

/** The stream cannot be opened; the message names the remedy. */
export class StreamOpenError extends BaseError {}
