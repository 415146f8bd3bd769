import { seededRandom } from '../../infra/starter-model/random.ts'
import type { RunPicture } from '../../processor/engine/batch.ts'
import { bucketsUpTo, plainRow } from '../../processor/engine/batch.ts'
import { DevicePool } from '../../processor/engine/device-pool.ts'
import type { CaptionModel } from '../../processor/models/model.ts'
import { openModel } from '../../processor/models/open-model.ts'
import { referenceOf } from '../../processor/models/reference.fixture.ts'
import { Executor } from '../../processor/pipeline/executor.ts'
import { seedCosts } from '../../processor/pipeline/seed-costs.ts'
import { taskRow } from '../../processor/pipeline/task-row.ts'
import { CostModel } from '../../processor/scheduling/cost-model.ts'
import { poissonArrivals } from './arrivals.ts'
import { largeFolder } from './families/folders.ts'
import { picturesOf } from './families/subject.ts'
import { median, printResult, quantile } from './measure.ts'

export interface JoiningOptions {
  rounds: number
  /** Time in which captions are asked for, in each round of each kind. */
  seconds: number
  /** Maximum rows of a batch. */
  batch: number
  /** Ids of short and of long captions. */
  short: number
  long: number
  threads: number
  /** Captions per second, of those that the device makes in batches of one length. */
  load: number
  python: string
  /** A tiny model, whose times say nothing. */
  tiny?: boolean
}

/** Share of the captions that are long. */
const longShare = 0.25

interface Ask {
  at: number
  isLong: boolean
}

interface Played {
  shortMs: number[]
  longMs: number[]
  /** Captions per second from the first that was asked for to the last that was made. */
  rate: number
  joined: number
}

/**
 * Short and long captions that callers ask for at random, in batches that rows join while they run, and in batches that run to their
 * end, in turn: how long callers wait. And the same captions all at once, as a batch job has them: how many there are in a second.
 */
export async function benchJoining(options: JoiningOptions): Promise<void> {
  const { rounds, seconds, batch, threads, tiny = false } = options
  const large = tiny ? { why: 'as asked' } : await largeFolder('smolvlm', options.python)
  const folder = 'folder' in large ? large.folder : referenceOf('smolvlm').folder
  if ('why' in large) console.error(`a tiny model: ${large.why}`)
  const model = await openModel(folder)
  const buckets = bucketsUpTo(batch)
  const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
  const pool = await DevicePool.start({ model, devices: [cpu], intraOpThreads: threads, buckets })
  try {
    const [picture] = picturesOf(model.picture, 1) as [RunPicture]
    const row = await taskRow(model, { maxTokens: Math.min(options.short, 32) }, [picture])
    const levels = model.levels.map(({ pruneRatio, flopShare }) => ({ pruneRatio, relativeCost: flopShare }))
    const costs = await seedCosts(pool.devices[0]!, { model, buckets, row, levels })
    const subject: Subject = { model, pool, picture, costs, options }
    const perSecond = options.load * (await rateOf(subject))
    const joining: Record<'queue' | 'callers', Played[]> = { queue: [], callers: [] }
    const whole: typeof joining = { queue: [], callers: [] }
    for (let round = 0; round < rounds; round++) {
      const arrivals = mixed(poissonArrivals([{ seconds, perSecond }], 1 + round), round)
      const queue = mixed(new Array<number>(3 * batch).fill(0), round)
      // In turn, so that neither is always the first.
      for (const joins of round % 2 === 0 ? [true, false] : [false, true]) {
        const played = joins ? joining : whole
        played.callers.push(await play(subject, arrivals, { joins, lane: 'interactive' }))
        played.queue.push(await play(subject, queue, { joins, lane: 'batch' }))
      }
    }
    report({ joining, whole, perSecond, options, tiny: 'why' in large })
  } finally {
    await pool.close()
  }
}

interface Subject {
  model: CaptionModel
  pool: DevicePool
  picture: RunPicture
  costs: CostModel
  options: JoiningOptions
}

const mixed = (times: readonly number[], seed: number): Ask[] => {
  const random = seededRandom(100 + seed)
  return times.map((at) => ({ at, isLong: random() < longShare }))
}

/** Captions per second of full batches, of the mean length. */
async function rateOf({ model, pool, picture, options }: Subject): Promise<number> {
  const { batch, short, long } = options
  const maxTokens = Math.round(short + longShare * (long - short))
  const rows = new Array(batch).fill(await taskRow(model, { maxTokens }, [picture]))
  const run = () => pool.devices[0]!.run({ rows, schedule: model.levels[0]! })
  await run()
  const { inferenceMs } = await run()
  return (1000 * batch) / inferenceMs
}

/** Asks for captions at their times; each begins at level 0, so that both kinds make the same ones. */
async function play(
  { model, pool, picture, costs: seeded, options }: Subject,
  asks: readonly Ask[],
  { joins, lane }: { joins: boolean; lane: 'interactive' | 'batch' },
): Promise<Played> {
  const { levels, buckets } = seeded
  // What one kind learns is not known to the other.
  const costs = new CostModel({ levels, buckets, samples: seeded.samples() })
  const measured = await plainRow(model, picture)
  let joined = 0
  const executor = new Executor({
    ...{ model, pool, costs, measured, joining: joins, queueLimit: 1e6 },
    interactiveTargetMs: 1000,
    level: 0,
    onBatch: (report) => {
      if (report.joined) joined += report.images.interactive + report.images.batch
    },
    now: Date.now,
  })
  const played: Played = { shortMs: [], longMs: [], rate: 0, joined: 0 }
  const start = performance.now()
  await Promise.all(
    asks.map(async ({ at, isLong }) => {
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, start + at - performance.now())))
      const askedAt = performance.now()
      const maxTokens = isLong ? options.long : options.short
      const asked = await taskRow(model, { maxTokens }, [picture])
      const deadline = Date.now() + (lane === 'batch' ? 86_400_000 : 60_000)
      await executor.run({ lane, enqueuedAt: Date.now(), deadline, maxPrune: 0, level: 0 }, { row: asked })
      played[isLong ? 'longMs' : 'shortMs'].push(performance.now() - askedAt)
    }),
  )
  played.rate = (1000 * asks.length) / (performance.now() - start)
  played.joined = joined
  return played
}

type Rounds = Record<'queue' | 'callers', Played[]>

function report({
  joining,
  whole,
  perSecond,
  options: { rounds, batch, short, long, load },
  tiny,
}: {
  joining: Rounds
  whole: Rounds
  perSecond: number
  options: JoiningOptions
  tiny: boolean
}): void {
  const of = (rounds: Played[], part: 'shortMs' | 'longMs', share: number) =>
    quantile(
      rounds.flatMap((each) => each[part]),
      share,
    )
  const row = (name: string, rounds: Rounds) => {
    const [p50, p99] = [0.5, 0.99].map((share) => of(rounds.callers, 'shortMs', share).toFixed(0))
    const longs = of(rounds.callers, 'longMs', 0.5).toFixed(0)
    const rate = median(rounds.queue.map((each) => each.rate)).toFixed(2)
    console.log(
      `${name}  short p50 ${p50} ms, p99 ${p99} ms; long p50 ${longs} ms; of a queue ${rate} images/s`,
    )
  }
  row('rows join    ', joining)
  row('whole batches', whole)
  const over = (part: 'shortMs' | 'longMs', share: number) =>
    of(whole.callers, part, share) / of(joining.callers, part, share)
  printResult('joining', {
    short_p50: over('shortMs', 0.5),
    short_p99: over('shortMs', 0.99),
    long_p50: over('longMs', 0.5),
    images_per_second: median(joining.queue.map(({ rate }, round) => rate / whole.queue[round]!.rate)),
    joined_share:
      joining.callers.reduce((sum, each) => sum + each.joined, 0) /
      joining.callers.reduce((sum, each) => sum + each.shortMs.length + each.longMs.length, 0),
    requests_per_second: perSecond,
    ...{ rounds, batch, short, long, load, tiny },
  })
}
