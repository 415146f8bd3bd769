import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import type { Caption } from '../../edge/contract/caption.ts'
import { drawPictures, type Picture } from './pictures.ts'
import {
  captionOf,
  completedOf,
  finished,
  getCaption,
  metric,
  postAsync,
  postImage,
  type Service,
  startService,
} from './service.ts'
import { temporaryFolder } from './turbine.ts'

let pictures: Picture[]
beforeAll(async () => {
  pictures = await drawPictures(24)
})

const day = 86_400_000

/**
 * Posts every picture; each id is noted once it is accepted, which a crash may keep some of them from. One in three
 * has time until tomorrow: it is captioned last, and what is done before it cannot be committed yet.
 */
function postAll(service: Service, accepted: string[]): Promise<unknown> {
  const post = async ({ jpeg }: Picture, i: number) =>
    accepted.push(await postAsync(service, jpeg, i % 3 ? {} : { deadline_ms: day }))
  return Promise.allSettled(pictures.map(post))
}

async function kill({ turbine }: Service): Promise<void> {
  turbine.kill('SIGKILL')
  expect(await turbine.exited).toEqual({ code: null, signal: 'SIGKILL' })
}

/** The results that are there already. */
async function completedSoFar(service: Service, ids: string[]): Promise<Caption[]> {
  const answers = await Promise.all(ids.map((id) => getCaption(service, id)))
  return Promise.all(answers.filter(({ status }) => status === 200).map(captionOf))
}

async function untilSomeAreDone(service: Service, ids: string[], count: number): Promise<Caption[]> {
  for (;;) {
    const done = await completedSoFar(service, ids)
    if (done.length >= count) return done
    await delay(10)
  }
}

/** Images captioned since the start, the one of the warm-up left out. */
const captionedSinceStart = async (service: Service) => (await metric(service, 'turbine_images_total')) - 1

/** Waits until nothing more is captioned, also of requests whose acceptance nobody heard of. */
async function untilIdle(service: Service): Promise<void> {
  for (let before = -1, count = 0; count !== before; await delay(500)) {
    before = count
    count = await captionedSinceStart(service)
  }
}

test('killed at any moment, it finishes what was accepted after the next start, and nothing twice', async () => {
  const dataDir = await temporaryFolder()
  const accepted: string[] = []

  // While requests come in.
  const first = await startService({ dataDir })
  const posting = postAll(first, accepted)
  while (accepted.length === 0) await delay(1)
  await kill(first)
  await posting
  expect(accepted.length).toBeGreaterThan(0)

  // While results come out.
  const second = await startService({ dataDir })
  await postAll(second, accepted)
  const done = await untilSomeAreDone(second, accepted, accepted.length / 2)
  await kill(second)

  // Right after the start, which takes up what is left at once.
  const third = await startService({ dataDir })
  await kill(third)

  const last = await startService({ dataDir })
  const results = await Promise.all(accepted.map(async (id) => completedOf(await finished(last, id))))
  expect(results.map(({ id }) => id)).toEqual(accepted)
  for (const caption of done) expect(results).toContainEqual(caption)
  // Requests of the first run whose acceptance nobody heard of can be among them.
  expect(await captionedSinceStart(last)).toBeLessThanOrEqual(2 * pictures.length - done.length)

  // With nothing left, a start has nothing to do.
  await untilIdle(last)
  await kill(last)
  const idle = await startService({ dataDir })
  expect(await completedSoFar(idle, accepted)).toEqual(results)
  expect(await captionedSinceStart(idle)).toBe(0)
})

test('a crash while callers wait loses nothing that was answered, and the caption is what it would have been', async () => {
  const dataDir = await temporaryFolder()
  const service = await startService({ dataDir })
  const answered = await completedOf(await postImage(service, pictures[0]!.jpeg))
  const large = new Uint8Array(1024 * 1024)
  large.set(pictures[0]!.jpeg)
  const waiting = Promise.allSettled(pictures.map(({ jpeg }) => postImage(service, jpeg)))
  const id = await postAsync(service, large)
  await kill(service)
  await waiting

  const next = await startService({ dataDir })
  expect(await (await getCaption(next, answered.id)).json()).toEqual(answered)
  expect(await completedOf(await finished(next, id))).toMatchObject({ caption: answered.caption })
})
