import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Caption } from '../../edge/contract/caption.ts'
import { Autoscaler } from '../../processor/simulator/autoscaler.ts'
import { drawPictures, type Picture } from '../e2e/pictures.ts'
import { metric } from '../e2e/service.ts'
import { canStartKafka } from '../servers/kafka.ts'
import { canStartS3 } from '../servers/s3.ts'
import { throttle } from '../servers/throttle.ts'
import { type Fleet, linesOf, manifestOf, type Part, startFleet, until } from './fleet.ts'

/** Each processor gets this share of the machine: three of them are to fit beside the broker and the edge. */
const share = 0.2
/** Of what one processor serves unpruned: the high load is more than that, and less than three serve. */
const loads = { low: 0.2, high: 1.4 }
/** Until there are that many the load grows in each turn by this share. */
const growth = 0.03
/** How long it is measured what one processor serves, and by how many callers, ms. */
const measuredMs = 8_000
const callers = 8
/** As KEDA polls and the autoscaler decides, but sooner. */
const turnMs = 3_000
const sloMs = 3_000
/** The partitions are a multiple of it: each replica then gets its equal share of the load. */
const mostReplicas = 3
/** Of the columns of the time line that is printed. */
const widths = [6, 12, 9, 10, 18]

interface Answer {
  at: number
  status: number
  caption: Caption
}

interface Moment {
  second: number
  replicas: number
  /** Mean over what was answered in the turn; undefined when nothing was. */
  pruned: number | undefined
}

const canRun = canStartKafka() && canStartS3()
if (!canRun) console.warn('Autoscaling is not tested: install Java 17, Maven, OpenSSL and Go.')

// It starts all of its servers itself, and needs the machine for itself.
describe.skipIf(!canRun)('autoscaling', () => {
  let fleet: Fleet
  let pictures: Picture[]
  const replicas: { part: Part; slow: { stop(): void } }[] = []
  const leaving: Promise<unknown>[] = []
  const answers: Answer[] = []
  const moments: Moment[] = []
  /** Requests per second. */
  let rate = 0
  let asked = 0
  let captioned = 0

  beforeAll(async () => {
    const env = {
      TURBINE_INTRA_OP_THREADS: '1',
      TURBINE_PARTITIONS: String(2 * mostReplicas),
    }
    ;[fleet, pictures] = await Promise.all([startFleet({ env, sloMs }), drawPictures(16)])
    await fleet.start('planner')
    await scaleTo(1)
  })
  afterAll(async () => {
    for (const { slow } of replicas) slow.stop()
    await fleet?.dispose()
  })

  async function scaleTo(count: number): Promise<void> {
    while (replicas.length < count) {
      const part = await fleet.start('processor')
      replicas.push({ part, slow: throttle(part.turbine.pid, share) })
    }
    for (const { part, slow } of replicas.splice(count)) {
      captioned += await metric(part, 'turbine_images_total')
      slow.stop()
      part.turbine.kill('SIGTERM')
      leaving.push(part.turbine.exited)
    }
  }

  async function ask(key: string, query = ''): Promise<void> {
    const { jpeg } = pictures[asked++ % pictures.length]!
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'image/jpeg' }
    for (;;) {
      const response = await fetch(`${fleet.url}/v1/captions${query}`, {
        method: 'POST',
        body: jpeg,
        headers,
      })
      if (response.status === 429) {
        await response.body?.cancel()
        await delay(1000 * Number(response.headers.get('retry-after') ?? 1))
        continue
      }
      answers.push({ at: Date.now(), status: response.status, caption: (await response.json()) as Caption })
      return
    }
  }

  /** What one processor serves at full quality. */
  async function imagesPerSecond(key: string): Promise<number> {
    const end = Date.now() + measuredMs
    let served = 0
    const call = async () => {
      for (; Date.now() < end; served++) await ask(key, '?max_prune=0&deadline_ms=20000')
    }
    await Promise.all(Array.from({ length: callers }, call))
    return (1000 * served) / measuredMs
  }

  /** Sends requests at the present rate, whatever becomes of them, until told to stop. */
  async function load(key: string, stop: AbortSignal): Promise<void> {
    const open: Promise<void>[] = []
    for (let next = Date.now(); !stop.aborted; next += 1000 / rate) {
      open.push(ask(key))
      await delay(Math.max(0, next - Date.now()))
    }
    await Promise.all(open)
  }

  const ratioOf = ({ caption }: Answer) => (caption.status === 'completed' ? caption.turbine.prune_ratio : 0)

  /** Mean prune ratio of what was answered in the last turn. */
  function prunedLately(): number | undefined {
    const recent = answers.filter(({ at }) => Date.now() - at < turnMs)
    return recent.length > 0
      ? recent.reduce((sum, answer) => sum + ratioOf(answer), 0) / recent.length
      : undefined
  }

  test('1 to 3 to 1 processors under load: nothing lost, nothing doubled, and full quality comes back', async () => {
    const key = await fleet.keyOf('acme')
    const openai = fleet.openai(key)
    const stop = new AbortController()
    const capacity = await imagesPerSecond(key)
    rate = loads.low * capacity
    const loading = load(key, stop.signal)
    const autoscaler = new Autoscaler({ min: 1, max: mostReplicas, scaleDownWindowMs: 4 * turnMs })
    const start = Date.now()
    console.log(columns('second', 'requests/s', 'desired', 'replicas', 'mean prune ratio'))
    let scaling: Promise<void> | undefined
    const turn = async () => {
      await delay(turnMs)
      const desired = Math.max(
        ...(await Promise.all(replicas.map(({ part }) => desiredBy(part.url, 'interactive')))),
      )
      const count = autoscaler.decide({ values: [desired], replicas: replicas.length }, Date.now())
      if (!scaling && count !== replicas.length) {
        scaling = scaleTo(count).finally(() => {
          scaling = undefined
        })
      }
      const second = Math.round((Date.now() - start) / 1000)
      const pruned = prunedLately()
      moments.push({ second, replicas: replicas.length, pruned })
      const seen = pruned?.toFixed(3) ?? 'no answers'
      console.log(columns(second, rate.toFixed(1), desired.toFixed(2), replicas.length, seen))
    }
    const turnsUntil = (done: () => boolean) => until(turn, done, 0)

    await turn()
    const file = await openai.files.create({ purpose: 'batch', file: manifestOf(pictures, 200) })
    const batch = await openai.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/captions' as '/v1/embeddings',
      completion_window: '24h',
    })
    rate = loads.high * capacity
    await turnsUntil(() => (moments.at(-1)?.pruned ?? 0) > 0)
    await turnsUntil(() => {
      if (replicas.length < mostReplicas) rate *= 1 + growth
      return replicas.length === mostReplicas && !scaling
    })
    await turnsUntil(() => moments.length > 2 && moments.slice(-2).every(({ pruned }) => pruned === 0))
    rate = loads.low * capacity
    await turnsUntil(() => replicas.length === 1 && !scaling)
    await turn()
    stop.abort()
    await loading
    await Promise.all(leaving)
    const done = await until(
      () => openai.batches.retrieve(batch.id),
      ({ status }) => status === 'completed',
    )
    captioned += await metric(replicas[0]!.part, 'turbine_images_total')
    expect(answers).toHaveLength(asked)
    for (const { status } of answers) expect([200, 202]).toContain(status)
    expect(new Set(answers.map(({ caption }) => caption.id)).size).toBe(asked)
    const late = answers.filter(({ caption }) => caption.status === 'queued')
    for (const { caption } of late) expect((await finished(key, caption.id)).status).toBe('completed')
    const output = linesOf<{ custom_id: string }>(
      await (await openai.files.content(done.output_file_id!)).text(),
    )
    expect(output.map(({ custom_id }) => custom_id)).toEqual(
      Array.from({ length: 200 }, (_, i) => `line-${i}`),
    )
    expect(moments.at(-1)).toMatchObject({ replicas: 1, pruned: 0 })
    const results = asked + 200
    console.log(
      `${results} results, ${late.length} of them late, ${captioned - results} images captioned again`,
    )
  }, 400_000)

  async function finished(key: string, id: string): Promise<Caption> {
    const headers = { authorization: `Bearer ${key}` }
    const poll = async () =>
      (await (await fetch(`${fleet.url}/v1/captions/${id}`, { headers })).json()) as Caption
    return until(poll, ({ status }) => status !== 'queued')
  }
})

/** What a process says that the fleet needs; 0 while it does not know. */
async function desiredBy(url: string, lane: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const value = new RegExp(`^turbine_desired_replicas\\{lane="${lane}",model="[^"]*"\\} (\\S+)$`, 'm').exec(
    text,
  )
  return Number(value?.[1] ?? 0)
}

function columns(...cells: (string | number)[]): string {
  return cells.map((cell, i) => String(cell).padStart(widths[i]!)).join('')
}
