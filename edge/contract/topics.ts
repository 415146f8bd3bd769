import { createHash } from 'node:crypto'
import type { TopicOptions } from '../../infra/stream/stream.ts'

/** Every topic of the job stream, named once. */
export const topics = {
  /** One record for each interactive request; of the model without topics of its own. */
  interactive: 'turbine.interactive',
  /** One record for each shard of a batch; of the model without topics of its own. */
  batch: 'turbine.batch',
  /** Messages to the planners: batches created and cancelled, shards done. */
  control: 'turbine.control',
  /** Records that failed for good. */
  deadLetter: 'turbine.dead-letter',
} as const

/** Consumer groups: one per lane and model, the planners', and the one that tracks handled dead letters. */
export const groups = {
  interactive: 'turbine-processor-interactive',
  batch: 'turbine-processor-batch',
  control: 'turbine-planner',
  deadLetter: 'turbine-dead-letter',
} as const

/** Lanes of jobs, each with its topic. */
export type JobLane = 'interactive' | 'batch'

/** Topic and consumer group of a lane. */
export interface JobTopic {
  topic: string
  group: string
}

/**
 * Topic of a lane that all processors share, or the one of a model.
 * @example jobTopic('batch', 'owner/name').topic // 'turbine.batch.owner-name-0123456789ab'
 */
export function jobTopic(lane: JobLane, model?: string): JobTopic {
  if (model === undefined) return { topic: topics[lane], group: groups[lane] }
  const name = nameOf(model)
  return { topic: `${topics[lane]}.${name}`, group: `${groups[lane]}-${name}` }
}

/** Characters of a model's id in the name of its topic: a topic has 249 at most. */
const maxNameCharacters = 80

/**
 * An id may have characters that topics cannot have, and be longer. Whatever is left out, the hash tells ids apart. A dot and an
 * underscore would be the same in Kafka's metrics, so the name has neither.
 */
function nameOf(model: string): string {
  const readable = model.replace(/[^A-Za-z0-9]+/g, '-').replace(/^-|-$/g, '')
  const hash = createHash('sha256').update(model).digest('hex').slice(0, 12)
  return [readable.slice(0, maxNameCharacters), hash].filter((part) => part !== '').join('-')
}

const ofModel = /^turbine\.(interactive|batch)\.[A-Za-z0-9-]{1,120}$/

/** Whether records of a topic are jobs, so that one can be sent there again. */
export const isJobTopic = (topic: string): boolean =>
  topic === topics.interactive || topic === topics.batch || ofModel.test(topic)

const hourMs = 3_600_000
const dayMs = 24 * hourMs

/**
 * Configuration of each topic. Interactive records carry images of up to 512 KiB, and an edge sends several records as
 * one batch. The number of partitions limits the replicas of a processor.
 */
export const topicLayout = (partitions = 12): Record<string, TopicOptions> => ({
  ...jobLayout(partitions),
  [topics.control]: { partitions, retentionMs: 14 * dayMs, groups: [groups.control] },
  [topics.deadLetter]: {
    partitions: 1,
    retentionMs: 30 * dayMs,
    maxMessageBytes: 8 * 1024 * 1024,
    groups: [groups.deadLetter],
  },
})

/** Configuration of the topics of both lanes: those that are shared, or those of a model. */
export function jobLayout(partitions: number, model?: string): Record<string, TopicOptions> {
  const interactive = jobTopic('interactive', model)
  const batch = jobTopic('batch', model)
  return {
    [interactive.topic]: {
      partitions,
      retentionMs: dayMs,
      maxMessageBytes: 8 * 1024 * 1024,
      groups: [interactive.group],
    },
    [batch.topic]: { partitions, retentionMs: 14 * dayMs, groups: [batch.group] },
  }
}
