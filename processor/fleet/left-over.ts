import { TurbineError } from '../../edge/contract/errors.ts'
import { announceModelMs, modelState, type ServedModel } from '../../edge/contract/model.ts'
import { type JobLane, jobTopic } from '../../edge/contract/topics.ts'
import type { Consumer, Stream } from '../../infra/stream/stream.ts'
import { type RepeatOptions, repeat } from '../../infra/timing.ts'
import { type DeadLetterOptions, withDeadLetters } from '../delivery/dead-letters.ts'
import { type Forward, forwardTo, modelOfJob } from './route.ts'

export interface LeftOverOptions extends Pick<RepeatOptions, 'log' | 'sleep'> {
  stream: Pick<Stream, 'consume' | 'send'>
  /** The last announcement of each model. */
  models(): Promise<ServedModel[]>
  /** Whether jobs of a model go to topics of its own. */
  ownTopics(model: string): Promise<boolean>
  onDeadLetter?: DeadLetterOptions['onDeadLetter']
  /** Unix ms. */
  now(): number
}

const jobLanes: JobLane[] = ['interactive', 'batch']
/** Records that are moved at a time. */
const maxInFlight = 32

/**
 * Moves what is in the shared topics to the models' own ones while every model that is served has some: nobody else takes what was
 * sent before a model had them. A record of a model that has none goes to the dead letters.
 */
export function moveLeftOver(options: LeftOverOptions): { close(): Promise<void> } {
  const { stream, now, log, sleep, onDeadLetter, ownTopics } = options
  const consumers: Consumer[] = []
  const stop = async () => {
    await Promise.all(consumers.splice(0).map((consumer) => consumer.close()))
  }
  const look = async () => {
    const isWanted = nobodyShares(await options.models(), now())
    if (!isWanted) return stop()
    if (consumers.length > 0) return
    for (const lane of jobLanes) {
      const handler = mover(lane, forwardTo({ lane, stream, ownTopics }))
      consumers.push(
        await stream.consume({
          ...jobTopic(lane),
          maxInFlight,
          handle: withDeadLetters(handler, { stream, onDeadLetter }),
          onError: (err) => log?.warn({ err }, 'a record was not moved to the topic of its model, retrying'),
        }),
      )
    }
  }
  const failure = 'looking for records in the shared topics failed, retrying'
  const looking = repeat(look, { everyMs: announceModelMs, failure, log, sleep })
  return {
    async close() {
      await looking.close()
      await stop()
    },
  }
}

/** Whether models have topics of their own, and none is waited for that takes the shared ones. */
function nobodyShares(models: readonly ServedModel[], now: number): boolean {
  const sharing = models.filter((served) => served.ownTopics !== true)
  return (
    sharing.length < models.length && sharing.every(({ seenAt }) => modelState(seenAt, now) === 'stopped')
  )
}

const mover = (lane: JobLane, forward: Forward) => ({
  handle: async (record: Parameters<Forward>[0]) => {
    if (await forward(record)) return
    const model = modelOfJob(lane, record)
    throw new TurbineError(`The model "${model}" has no topics of its own, and nobody serves it.`, {
      ...{ status: 404, code: 'model_not_found', retriable: false },
    })
  },
})
