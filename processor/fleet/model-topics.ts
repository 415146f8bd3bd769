import { jobLayout, jobTopic } from '../../edge/contract/topics.ts'
import { type Stream, UnknownTopicError } from '../../infra/stream/stream.ts'

/** Topics that a processor takes the jobs of a model from. */
export interface ModelTopics {
  model: string
  /** Those of the model. */
  own: boolean
  /** Those that are shared. */
  shared: boolean
}

export interface ModelTopicsOptions {
  stream: Pick<Stream, 'lag' | 'ensureTopics'>
  /** Partitions of topics that are made. */
  partitions: number
  /** The stream has no other consumers. */
  embedded: boolean
}

/**
 * Decides which topics the jobs of a process's models are in: of their own where those exist. Of the others the first has the
 * shared ones, as it does where it is the only one; for the rest topics are made. In one process the first takes whatever is
 * left in the shared topics, too.
 * @throws StreamUnavailableError, StreamOpenError
 */
export async function modelTopics(
  models: readonly string[],
  { stream, partitions, embedded }: ModelTopicsOptions,
): Promise<ModelTopics[]> {
  const topics: ModelTopics[] = []
  for (const [index, model] of models.entries()) {
    const isFirst = index === 0
    const exist = await haveTopics(stream, model)
    if (!exist && !isFirst) await stream.ensureTopics(jobLayout(partitions, model))
    const own = exist || !isFirst
    topics.push({ model, own, shared: isFirst && (embedded || !own) })
  }
  return topics
}

async function haveTopics(stream: Pick<Stream, 'lag'>, model: string): Promise<boolean> {
  try {
    for (const lane of ['interactive', 'batch'] as const) {
      const { topic, group } = jobTopic(lane, model)
      await stream.lag(topic, group)
    }
    return true
  } catch (error) {
    if (error instanceof UnknownTopicError) return false
    throw error
  }
}
