import { openKafkaStream } from '../../infra/stream/kafka.ts'
import type { FinishedCaption } from '../contract/caption.ts'
import { type CaptionJob, decodeJob } from '../contract/job.ts'
import { topicLayout, topics } from '../contract/topics.ts'

export interface FakeProcessorOptions {
  brokers: string
  /** Called for each job; what it does is what the processor does. */
  onJob(job: CaptionJob): unknown
}

/** Reads jobs from a real Kafka as a processor does, from the topic's first record on; creates the topic. */
export async function startFakeProcessor({ brokers, onJob }: FakeProcessorOptions) {
  const stream = await openKafkaStream({ brokers: [brokers], clientId: 'fake-processor' })
  await stream.ensureTopics({
    [topics.interactive]: { ...topicLayout()[topics.interactive]!, partitions: 4 },
  })
  await stream.consume({
    topic: topics.interactive,
    group: 'fake-processor',
    maxInFlight: 64,
    handle: async (record) => void (await onJob(decodeJob(record))),
  })
  return { close: () => stream.close() }
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
