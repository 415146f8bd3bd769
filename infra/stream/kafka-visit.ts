import type { Consumer, ConsumerRunConfig, Kafka } from 'kafkajs'
import { valueWithin } from '../timing.ts'

export interface Visit extends Pick<ConsumerRunConfig, 'eachBatch'> {
  topic: string
  group: string
  /** Runs whenever the consumer has joined. */
  onJoin(consumer: Consumer): void
}

const leaveMs = 30_000

/**
 * Joins a group without committing, does the work and leaves the group.
 * @throws what the work throws, or what the consumer crashes with
 */
export async function visitGroup<T>(
  kafka: Kafka,
  { topic, group, onJoin, eachBatch = async () => {} }: Visit,
  work: (consumer: Consumer) => Promise<T>,
): Promise<T> {
  const consumer = kafka.consumer({
    groupId: group,
    maxWaitTimeInMs: 100,
    allowAutoTopicCreation: false,
    retry: { restartOnFailure: async () => false },
  })
  const crashed = Promise.withResolvers<never>()
  // It may be rejected before the race starts.
  crashed.promise.catch(() => {})
  consumer.on(consumer.events.CRASH, ({ payload }) => crashed.reject(payload.error))
  consumer.on(consumer.events.GROUP_JOIN, () => onJoin(consumer))
  try {
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ autoCommit: false, eachBatch })
    return await Promise.race([work(consumer), crashed.promise])
  } finally {
    await valueWithin(leaveMs, Promise.allSettled([consumer.disconnect()]))
  }
}
