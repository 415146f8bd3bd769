import type { Admin, Consumer, Kafka } from 'kafkajs'
import { type RetryOptions, retry } from '../retry.ts'
import { createKafka, type KafkaOptions, orOpenError, protocolErrorType } from './kafka-connection.ts'
import { visitGroup } from './kafka-visit.ts'
import type { TopicOptions } from './stream.ts'

/** Topics that a stream needs, by name. */
export type TopicLayout = Record<string, TopicOptions>

/** Actual state of a topic against the wanted one. */
export interface TopicReport {
  topic: string
  ok: boolean
  /** Absent for a topic that does not exist. */
  partitions?: number
  /** Problems with their remedies, a line each. */
  findings: string[]
}

/** Topic as Kafka has it. Limits are -1 where there is none. */
export interface TopicState {
  partitions: number
  retentionMs: number
  maxMessageBytes: number
  /** Groups with the number of partitions that they have never committed. */
  uncommitted: Record<string, number>
  /** True when losing one broker loses records, although others could hold copies. */
  singleCopy: boolean
}

/** Producers put records of up to this many bytes together into one batch. */
const leastMessageBytes = 1_000_000
const topicResource = 2
/** Source of a setting made for the topic, not by the broker's defaults. */
const setForTopic = 1
/** Kafka's names of the limits. */
const limitNames = { retentionMs: 'retention.ms', maxMessageBytes: 'max.message.bytes' } as const

/**
 * Creates missing topics, raises limits that are too low, and commits the start for groups without commits, whose lag a
 * scaler cannot see. Existing topics keep their partitions, because keys would move.
 *
 * @throws StreamOpenError when Kafka cannot be reached or refuses
 */
export function createTopics(options: KafkaOptions, layout: TopicLayout): Promise<void> {
  return administer(options, (admin, kafka) => ensureTopics(kafka, admin, layout))
}

/**
 * Compares the topics with the layout; changes nothing.
 * @throws StreamOpenError when Kafka cannot be reached or refuses
 */
export function checkTopics(options: KafkaOptions, layout: TopicLayout): Promise<TopicReport[]> {
  return administer(options, async (admin) => {
    const existing = new Set(await admin.listTopics())
    const reports = Object.entries(layout).map(async ([topic, required]): Promise<TopicReport> => {
      const state = existing.has(topic) ? await describeTopic(admin, topic, required.groups ?? []) : undefined
      const findings = findingsOf(topic, required, state)
      return { topic, ok: findings.length === 0, partitions: state?.partitions, findings }
    })
    return Promise.all(reports)
  })
}

/** Lists the problems of a topic; `state` is undefined when it does not exist. */
export function findingsOf(topic: string, required: TopicOptions, state: TopicState | undefined): string[] {
  const create = 'npx turbine topics create'
  if (!state) return [`does not exist: ${create}`]
  const { partitions, uncommitted, singleCopy } = state
  const addPartitions = `kafka-topics.sh --alter --topic ${topic} --partitions ${required.partitions}`
  const fewPartitions = `has ${partitions} partitions of ${required.partitions}, so at most ${partitions} consumers share it: ${addPartitions}`
  const lowLimits = limitsToRaise(required, state).map(
    ({ name, has, needs }) => `${name} is ${has}, less than ${needs}: ${create}`,
  )
  const missingStarts = Object.entries(uncommitted).map(
    ([group, count]) => `group ${group} has no offsets on ${count} partitions: ${create}`,
  )
  return [
    ...(partitions < required.partitions ? [fewPartitions] : []),
    ...lowLimits,
    ...missingStarts,
    ...(singleCopy ? ['has one copy of each record: reassign it with more replicas'] : []),
  ]
}

export async function ensureTopics(kafka: Kafka, admin: Admin, layout: TopicLayout): Promise<void> {
  const existing = new Set(await admin.listTopics())
  const missing = Object.entries(layout).filter(([topic]) => !existing.has(topic))
  if (missing.length > 0) await createMissing(admin, missing)
  for (const [topic, required] of Object.entries(layout)) {
    if (existing.has(topic)) await raiseLimits(admin, topic, required)
    for (const group of required.groups ?? []) await commitStart(kafka, admin, topic, group)
  }
}

async function createMissing(admin: Admin, topics: [string, TopicOptions][]): Promise<void> {
  const configs = topics.map(([topic, required]) => ({
    topic,
    numPartitions: required.partitions,
    configEntries: entries([
      // Retention counts from the broker's clock, not the sender's.
      ['message.timestamp.type', 'LogAppendTime'],
      ...limitsIn(required),
    ]),
  }))
  // With the brokers' default replication factor.
  await admin.createTopics({ topics: configs, waitForLeaders: true })
}

async function raiseLimits(admin: Admin, topic: string, required: TopicOptions): Promise<void> {
  const settings = await describeSettings(admin, topic)
  const raised = limitsToRaise(required, limitsOf(settings)).map(
    ({ name, needs }): Entry => [name, String(needs)],
  )
  if (raised.length === 0) return
  // Settings missing from the request return to the broker's default, so all are repeated.
  const kept = settings
    .filter(({ configSource }) => configSource === setForTopic)
    .map(({ configName, configValue }): Entry => [configName, configValue])
  const configEntries = entries([...new Map([...kept, ...raised])])
  const resource = { type: topicResource, name: topic, configEntries }
  await admin.alterConfigs({ validateOnly: false, resources: [resource] })
}

type Limits = Pick<TopicState, 'retentionMs' | 'maxMessageBytes'>
type Entry = [name: string, value: string]

const limits = ['retentionMs', 'maxMessageBytes'] as const

function limitsIn(required: TopicOptions): Entry[] {
  return limits.flatMap((limit) => {
    const value = required[limit]
    return value === undefined ? [] : [[limitNames[limit], String(value)] satisfies Entry]
  })
}

/** Limits that are lower than the layout, or producers, need. */
function limitsToRaise(
  required: TopicOptions,
  state: Limits,
): { name: string; has: number; needs: number }[] {
  const least: Limits = { retentionMs: 0, maxMessageBytes: leastMessageBytes }
  return limits
    .map((limit) => ({ name: limitNames[limit], has: state[limit], needs: required[limit] ?? least[limit] }))
    .filter(({ has, needs }) => has >= 0 && has < needs)
}

type Settings = Awaited<ReturnType<typeof describeSettings>>

async function describeSettings(admin: Admin, topic: string) {
  const resources = [{ type: topicResource, name: topic }]
  const described = await admin.describeConfigs({ resources, includeSynonyms: false })
  return described.resources[0]?.configEntries ?? []
}

function limitsOf(settings: Settings): Limits {
  const limitOf = (limit: keyof Limits) =>
    Number(settings.find(({ configName }) => configName === limitNames[limit])?.configValue ?? -1)
  return { retentionMs: limitOf('retentionMs'), maxMessageBytes: limitOf('maxMessageBytes') }
}

async function describeTopic(admin: Admin, topic: string, groups: string[]): Promise<TopicState> {
  const settings = await describeSettings(admin, topic)
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  const { brokers } = await admin.describeCluster()
  const partitions = topics[0]!.partitions
  const starts = groups.map(async (group): Promise<[string, number]> => {
    return [group, (await withoutCommit(admin, topic, group)).length]
  })
  return {
    partitions: partitions.length,
    ...limitsOf(settings),
    uncommitted: Object.fromEntries((await Promise.all(starts)).filter(([, count]) => count > 0)),
    singleCopy: brokers.length > 1 && partitions.some(({ replicas }) => replicas.length === 1),
  }
}

/** Partitions of the topic on which the group has never committed. */
async function withoutCommit(admin: Admin, topic: string, group: string): Promise<number[]> {
  const [offsets] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  return offsets!.partitions.filter(({ offset }) => Number(offset) < 0).map(({ partition }) => partition)
}

/** New topics have no leaders for a moment, which kafkajs does not wait for in every call. */
const untilLed: RetryOptions = {
  tries: 50,
  retriable: (error) => protocolErrorType(error) === 'NOT_LEADER_FOR_PARTITION',
  pauseMs: () => 100,
}

/**
 * Commits the first offset on partitions where the group has none. A group with members does that itself. (kafkajs's
 * own `setOffsets` takes five seconds.)
 */
async function commitStart(kafka: Kafka, admin: Admin, topic: string, group: string): Promise<void> {
  const missing = await withoutCommit(admin, topic, group)
  if (missing.length === 0) return
  const { groups } = await admin.describeGroups([group])
  if (groups.some(({ members }) => members.length > 0)) return
  const offsets = await retry(() => admin.fetchTopicOffsets(topic), untilLed)
  const starts = offsets.filter(({ partition }) => missing.includes(partition))
  const commits = starts.map(({ partition, low }) => ({ topic, partition, offset: low }))
  const onJoin = (consumer: Consumer) => consumer.pause([{ topic }])
  await visitGroup(kafka, { topic, group, onJoin }, (consumer) => consumer.commitOffsets(commits))
}

function administer<T>(options: KafkaOptions, work: (admin: Admin, kafka: Kafka) => Promise<T>): Promise<T> {
  return orOpenError(options, async () => {
    const kafka = createKafka(options)
    const admin = kafka.admin()
    try {
      await admin.connect()
      return await work(admin, kafka)
    } finally {
      await admin.disconnect()
    }
  })
}

function entries(pairs: Iterable<Entry>): { name: string; value: string }[] {
  return [...pairs].map(([name, value]) => ({ name, value }))
}
