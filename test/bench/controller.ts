import { seededRandom } from '../../infra/starter-model/random.ts'
import { admission } from '../../processor/scheduling/admission.ts'
import { Batcher } from '../../processor/scheduling/batcher.ts'
import { CostModel } from '../../processor/scheduling/cost-model.ts'
import type { Backlog } from '../../processor/scheduling/level.ts'
import { ImageQueue, type QueuedImage } from '../../processor/scheduling/queue.ts'
import { median, printResult, quantile } from './measure.ts'

/** A made-up device with the starter's number of levels: what a decision takes does not depend on what runs take. */
const levels = [0, 0.3, 0.4, 0.6, 0.75, 0.8, 0.82, 0.83, 0.84].map((pruneRatio) => ({
  pruneRatio,
  relativeCost: 1 - 0.8 * pruneRatio,
}))
const buckets = [1, 2, 4, 8, 16]
const batches = 100
const hourMs = 3_600_000

/** Involuntary context switches so far: decisions with one are disturbed by other processes. */
const timesInterrupted = () => process.resourceUsage().involuntaryContextSwitches

/**
 * What one decision costs while very many images wait: the next batch, with its level and its size, and whether one
 * more image is admitted. Deadlines and `max_prune` are mixed, in both lanes, with batches of which more is to come.
 */
export async function benchController({ images, rounds }: { images: number; rounds: number }): Promise<void> {
  const random = seededRandom(11)
  let now = 1_790_000_000_000
  const imageOf = (id: string): QueuedImage<undefined> => {
    const lane = random() < 0.5 ? 'interactive' : 'batch'
    return {
      id,
      lane,
      enqueuedAt: now,
      deadline: now + random() * (lane === 'interactive' ? 2_000_000 : 24 * hourMs),
      maxPrune: random() < 0.8 ? 1 : random(),
      group: '1',
      payload: undefined,
    }
  }
  const queue = new ImageQueue<undefined>({ levels, limits: { interactive: images, batch: images } })
  for (let i = 0; i < images; i++) queue.add(imageOf(`${i}`), now)
  const samples = buckets.flatMap((bucket) =>
    levels.map(({ relativeCost }, level) => ({ bucket, level, ms: 4 + 10 * bucket * relativeCost })),
  )
  const costs = new CostModel({ levels, buckets, samples })
  const maxLevel = levels.length - 1
  const toCome: Backlog[] = Array.from({ length: batches }, () => ({
    deadline: now + random() * 24 * hourMs,
    images: Math.floor(random() * 10_000),
    maxLevel,
  }))
  const upstream = (lane: string) => (lane === 'batch' ? toCome : [])
  const batcher = new Batcher({ queue, costs, upstream })

  const decisions: number[] = []
  const undisturbed: number[] = []
  const admissions: number[] = []
  for (let round = -100; round < rounds; round++) {
    const interruptions = timesInterrupted()
    const begun = performance.now()
    const batch = batcher.nextBatch(now)!
    const decided = performance.now()
    const isUndisturbed = timesInterrupted() === interruptions
    const asked = performance.now()
    admission({ queue, costs }, { deadline: now + 500 }, now)
    if (round >= 0) {
      admissions.push(1000 * (performance.now() - asked))
      decisions.push(1000 * (decided - begun))
      if (isUndisturbed) undisturbed.push(1000 * (decided - begun))
    }
    costs.observe({
      bucket: batch.bucket,
      level: batch.level,
      ms: batch.predictedMs * (0.9 + 0.2 * random()),
    })
    now += batch.predictedMs
    for (const { id } of batch.images) queue.add(imageOf(id), now)
  }
  const row = (name: string, times: number[]) =>
    console.log(
      `${name.padEnd(12)}${median(times).toFixed(1).padStart(8)}${quantile(times, 0.99).toFixed(1).padStart(9)}`,
    )
  console.log(`${images} images wait, ${batches} batches have more to come; microseconds\n`)
  console.log(`${''.padEnd(12)}${'median'.padStart(8)}${'p99'.padStart(9)}`)
  row('next batch', decisions)
  row('undisturbed', undisturbed)
  row('admission', admissions)
  printResult('controller', {
    images,
    decision_us_p50: median(decisions),
    decision_us_p99: quantile(decisions, 0.99),
    undisturbed_us_p99: quantile(undisturbed, 0.99),
    undisturbed: undisturbed.length / rounds,
    admission_us_p50: median(admissions),
    admission_us_p99: quantile(admissions, 0.99),
    rounds,
  })
}
