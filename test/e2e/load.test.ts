import { readdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, expect, test, vi } from 'vitest'
import { modelListSchema } from '../../edge/contract/model.ts'
import { drawPictures, type Picture } from './pictures.ts'
import {
  type AskOptions,
  completedOf,
  errorOf,
  metric,
  postImage,
  type Service,
  startService,
} from './service.ts'
import { temporaryFolder } from './turbine.ts'

// One thread makes the burst more than any machine serves in time unpruned.
const oneThread = ['--intra-op-threads', '1']

let picture: Picture
beforeAll(async () => {
  picture = (await drawPictures(1))[0]!
})

/** Asks as a well-behaved caller does: turned away, it comes back when it was told to. */
async function askPatiently(service: Service, options?: AskOptions) {
  for (;;) {
    const response = await postImage(service, picture.jpeg, options)
    if (response.status !== 429) return completedOf(response)
    expect(['queue_full', 'overloaded']).toContain((await errorOf(response)).code)
    await delay(1000 * Number(response.headers.get('retry-after')))
  }
}

/** Prune ratio of the first level above none. */
async function mildestPruning({ url }: Service): Promise<number> {
  const { data } = modelListSchema.parse(await (await fetch(`${url}/v1/models`)).json())
  return data[0]!.turbine.prune_levels[1]!.prune_ratio
}

test('a burst is pruned within what each image allows; afterwards nothing is', async () => {
  const service = await startService({ dataDir: await temporaryFolder(), args: oneThread })
  const mildest = await mildestPruning(service)
  const allowed = [0, mildest, 1, 1]
  const ask = async (_: unknown, i: number) => {
    const maxPrune = allowed[i % allowed.length]!
    const { turbine } = await askPatiently(service, { query: { max_prune: maxPrune } })
    return { maxPrune, turbine }
  }
  const answers = await Promise.all(Array.from({ length: 60 }, ask))
  for (const { maxPrune, turbine } of answers) {
    expect(turbine.prune_ratio).toBeLessThanOrEqual(maxPrune)
    expect(turbine.prune_ratio).toBeCloseTo(1 - (turbine.tokens_out - 1) / (turbine.tokens_in - 1))
    expect(turbine.prune_ratio > 0).toBe(turbine.prune_level > 0)
  }
  const ratiosOf = (maxPrune: number) =>
    answers.filter((answer) => answer.maxPrune === maxPrune).map(({ turbine }) => turbine.prune_ratio)
  expect(Math.max(...ratiosOf(mildest))).toBe(mildest)
  expect(Math.max(...ratiosOf(1))).toBeGreaterThan(0)
  const lone = await completedOf(await postImage(service, picture.jpeg))
  expect(lone.turbine.prune_level).toBe(0)
  expect(await metric(service, 'turbine_images_total')).toBe(1 + answers.length + 1)
})

test('beyond its queue it turns requests away with a time to come back, and loses none', async () => {
  const service = await startService({
    dataDir: await temporaryFolder(),
    env: { TURBINE_QUEUE_LIMIT: '4' },
    args: oneThread,
  })
  const responses = await Promise.all(Array.from({ length: 60 }, () => postImage(service, picture.jpeg)))
  const refused = responses.filter(({ status }) => status === 429)
  expect(refused.length).toBeGreaterThan(0)
  for (const response of refused) {
    const seconds = response.headers.get('retry-after')
    expect(Number(seconds)).toBeGreaterThanOrEqual(1)
    expect(await errorOf(response)).toEqual({
      code: 'queue_full',
      type: 'rate_limit_error',
      param: null,
      message: `The queue is full. Retry in ${seconds} s.`,
    })
  }
  const taken = responses.filter(({ status }) => status !== 429)
  for (const response of taken) await completedOf(response)
  expect(await metric(service, 'turbine_images_total')).toBe(1 + taken.length)
  await askPatiently(service)
})

test('what would be late is rejected before anything is stored of it', async () => {
  const dataDir = await temporaryFolder()
  const service = await startService({ dataDir, env: { TURBINE_SLO_MS: '60' }, args: oneThread })
  const ask = () => postImage(service, picture.jpeg, { query: { max_prune: 0 } })
  const responses = await Promise.all(Array.from({ length: 60 }, ask))
  const rejected = responses.filter(({ status }) => status === 429)
  expect(rejected.length).toBeGreaterThan(0)
  for (const response of rejected) {
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
    expect((await errorOf(response)).code).toBe('overloaded')
  }
  expect(await metric(service, 'turbine_shed_total{reason="late"}')).toBe(rejected.length)
  const taken = responses.length - rejected.length
  const captions = async () =>
    (await readdir(dataDir, { recursive: true })).filter((name) => /cap_[\w-]+\.json@$/.test(name))
  await vi.waitFor(async () => expect(await captions()).toHaveLength(taken), { timeout: 20_000 })
})
