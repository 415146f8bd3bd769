import type { TopicOptions } from '../../infra/stream/stream.ts'

/** Every topic of the job stream, named once. */
export const topics = {
  /** One record for each interactive request. */
  interactive: 'turbine.interactive',
  /** One record for each shard of a batch. */
  batch: 'turbine.batch',
  /** Messages to the planners: batches created and cancelled, shards done. */
  control: 'turbine.control',
  /** Records that failed for good. */
  deadLetter: 'turbine.dead-letter',
} as const

/** Consumer groups: one per lane, the planners', and the one that tracks handled dead letters. */
export const groups = {
  interactive: 'turbine-processor-interactive',
  batch: 'turbine-processor-batch',
  control: 'turbine-planner',
  deadLetter: 'turbine-dead-letter',
} as const

const hourMs = 3_600_000
const dayMs = 24 * hourMs

/**
 * Configuration of each topic. Interactive records carry images of up to 512 KiB, and an edge sends several records as
 * one batch. The number of partitions limits the replicas of a processor.
 */
export const topicLayout = (partitions = 12): Record<string, TopicOptions> => ({
  [topics.interactive]: {
    partitions,
    retentionMs: dayMs,
    maxMessageBytes: 8 * 1024 * 1024,
    groups: [groups.interactive],
  },
  [topics.batch]: { partitions, retentionMs: 14 * dayMs, groups: [groups.batch] },
  [topics.control]: { partitions, retentionMs: 14 * dayMs, groups: [groups.control] },
  [topics.deadLetter]: {
    partitions: 1,
    retentionMs: 30 * dayMs,
    maxMessageBytes: 8 * 1024 * 1024,
    groups: [groups.deadLetter],
  },
})
