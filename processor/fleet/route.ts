import { decodeShardJob } from '../../edge/contract/shard.ts'
import { type JobLane, jobTopic } from '../../edge/contract/topics.ts'
import type { ConsumedRecord, Stream, StreamRecord } from '../../infra/stream/stream.ts'
import type { RecordHandler } from '../delivery/dead-letters.ts'

export interface RouteOptions {
  lane: JobLane
  stream: Pick<Stream, 'send'>
  /** Whether a model's jobs are in topics of its own. */
  ownTopics(model: string): boolean | Promise<boolean>
}

/** Sends a record of the shared topic to its model's own one. @returns false when the model has none */
export type Forward = (record: ConsumedRecord) => Promise<boolean>

/**
 * Moves records to the topics of their models: of edges and planners that did not know yet, or were sent before the model had
 * topics of its own. One that is moved twice counts once.
 */
export function forwardTo({ lane, stream, ownTopics }: RouteOptions): Forward {
  return async (record) => {
    const model = modelOfJob(lane, record)
    if (model === undefined || !(await ownTopics(model))) return false
    await stream.send(jobTopic(lane, model).topic, [moved(lane, record)])
    return true
  }
}

/** Handles the records of `model`, and of those that no other topic is for; the rest is moved. */
export function routed(handler: RecordHandler, model: string, options: RouteOptions): RecordHandler {
  const forward = forwardTo(options)
  return {
    ...handler,
    async handle(record, signal) {
      if (modelOfJob(options.lane, record) === model || !(await forward(record)))
        await handler.handle(record, signal)
    },
  }
}

const moved = (lane: JobLane, { key, value, headers }: ConsumedRecord): StreamRecord => ({
  ...{ key, value },
  headers: lane === 'interactive' ? { ...headers, repeatable: '1' } : headers,
})

/** The model that a job is for; undefined for a record that cannot be read. */
export function modelOfJob(lane: JobLane, record: ConsumedRecord): string | undefined {
  if (lane === 'interactive') return record.headers.model
  try {
    return decodeShardJob(record).model
  } catch {
    return undefined
  }
}
