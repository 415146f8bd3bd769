import { createKafka } from '../../infra/stream/kafka-connection.ts'
import { consumedRecord } from '../../infra/stream/kafka-record.ts'
import type { FinishedCaption } from '../contract/caption.ts'
import { type CaptionJob, decodeJob } from '../contract/job.ts'
import { topicLayout, topics } from '../contract/topics.ts'

export interface FakeProcessorOptions {
  brokers: string
  /** Called for each job; what it does is what the processor does. */
  onJob(job: CaptionJob): void | Promise<void>
}

/** Reads jobs from a real Kafka, from the topic's first record on; resolves when it will get every further one. */
export async function startFakeProcessor({ brokers, onJob }: FakeProcessorOptions) {
  const kafka = createKafka({ brokers: [brokers], clientId: 'fake-processor' })
  const consumer = kafka.consumer({
    groupId: 'fake-processor',
    minBytes: 1,
    maxWaitTimeInMs: 100,
    retry: { restartOnFailure: async () => true },
  })
  await consumer.subscribe({ topic: topics.interactive, fromBeginning: true })
  const joined = Promise.withResolvers<void>()
  consumer.on(consumer.events.GROUP_JOIN, () => joined.resolve())
  await consumer.run({
    partitionsConsumedConcurrently: 4,
    eachMessage: async ({ topic, partition, message }) =>
      onJob(decodeJob(consumedRecord(topic, partition, message))),
  })
  await joined.promise
  return { close: () => consumer.disconnect() }
}

/** Creates the topic of the jobs, as `topicLayout` wants it. */
export async function createInteractiveTopic(brokers: string): Promise<void> {
  const admin = createKafka({ brokers: [brokers] }).admin()
  await admin.connect()
  const { maxMessageBytes } = topicLayout()[topics.interactive]!
  const configEntries = [{ name: 'max.message.bytes', value: String(maxMessageBytes) }]
  await admin.createTopics({ topics: [{ topic: topics.interactive, numPartitions: 4, configEntries }] })
  await admin.disconnect()
}

/** A caption that says of which image it is: by the number of its bytes. */
export const captionOf = ({ id, model }: CaptionJob, bytes: number): FinishedCaption => ({
  id,
  object: 'caption',
  status: 'completed',
  created: 1_790_000_000,
  caption: `an image of ${bytes} bytes`,
  turbine: {
    prune_level: 0,
    prune_ratio: 0,
    tokens_in: 197,
    tokens_out: 197,
    output_tokens: 5,
    queue_ms: 1,
    inference_ms: 2,
    model,
  },
})
