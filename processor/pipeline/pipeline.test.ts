import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openModel } from '../models/open-model.ts'
import { mostPictureBytes } from '../models/pictures.ts'
import { tinyBlip } from '../models/tiny-blip.fixture.ts'
import type { CaptionTask } from './captioner.ts'
import type { BatchReport } from './executor.ts'
import { PictureMemory } from './picture-memory.ts'
import { Pipeline, type PipelineOptions } from './pipeline.ts'

const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const reports: BatchReport[] = []
let pipeline: Pipeline

/** A plain picture of one colour. */
const picture = (colour: string) =>
  sharp({ create: { width: 20, height: 10, channels: 3, background: colour } })
    .png()
    .toBuffer()

async function start(options: Partial<PipelineOptions> = {}) {
  return Pipeline.start({
    model: await openModel(tinyBlip),
    devices: [cpu],
    intraOpThreads: 1,
    buckets: [1, 2, 4],
    queueLimit: 100,
    interactiveTargetMs: 10_000,
    onBatch: (report) => reports.push(report),
    ...options,
  })
}

beforeAll(async () => {
  pipeline = await start()
})
afterAll(() => pipeline.close())

describe('Pipeline', () => {
  it('captions an image, unpruned when it is alone', async () => {
    const captioned = await pipeline.caption({ image: await picture('red'), lane: 'interactive' })
    expect(captioned).toMatchObject({
      turbine: {
        prune_level: 0,
        prune_ratio: 0,
        tokens_in: 65,
        tokens_out: 65,
        model: 'tiny-blip',
      },
    })
    expect(captioned.caption.length).toBeGreaterThan(0)
    expect(captioned.turbine.inference_ms).toBeGreaterThan(0)
  })

  it('tells of an image whose end is missing, where that is accepted', async () => {
    const accepting = await start({ truncated: 'accept' })
    const image = (
      await sharp(await picture('red'))
        .jpeg()
        .toBuffer()
    ).subarray(0, -2)
    const refused = pipeline.caption({ image, lane: 'batch' })
    await expect(refused).rejects.toMatchObject({ code: 'image_invalid' })
    const { turbine } = await accepting.caption({ image, lane: 'batch' })
    expect(turbine.warnings).toEqual(['truncated'])
    const whole = await accepting.caption({ image: await picture('red'), lane: 'batch' })
    expect(whole.turbine).not.toHaveProperty('warnings')
    await accepting.close()
  })

  it('answers many at once as one by one', async () => {
    const images = await Promise.all(
      ['red', 'green', 'blue', 'white', 'black', 'orange', 'gray'].map(picture),
    )
    const caption = async (image: Buffer) => (await pipeline.caption({ image, lane: 'batch' })).caption
    const oneByOne: string[] = []
    for (const image of images) oneByOne.push(await caption(image))
    reports.length = 0
    expect(await Promise.all(images.map(caption))).toEqual(oneByOne)
    expect(reports.reduce((sum, report) => sum + report.images.batch, 0)).toBe(images.length)
  })

  it('ends a caption by its rules, and says so', async () => {
    // Random weights say a word again and again.
    const model = await openModel(tinyBlip)
    const decode = (ids: number[]) => ids.map(() => 'red').join(' ')
    const ruled = await start({ model: { ...model, decode }, rules: { endLoops: true, openings: ['re'] } })
    const { caption, turbine } = await ruled.caption({ image: await picture('red'), lane: 'batch' })
    expect(caption).toBe('red')
    expect(turbine.finish_reason).toBe('repetition')
    await ruled.close()
  })

  it('runs a pinned level and says so', async () => {
    const { turbine } = await pipeline.caption({ image: await picture('red'), lane: 'batch', level: 1 })
    expect(turbine.prune_level).toBe(1)
    expect(turbine.tokens_out).toBeLessThan(65)
    expect(turbine.prune_ratio).toBeCloseTo((65 - turbine.tokens_out) / 64)
  })

  it('keeps images with prompts of other lengths out of each other’s batches', async () => {
    const image = await picture('red')
    const prompts = [undefined, 'a', 'a b', undefined, 'a', 'a b']
    const captions = await Promise.all(
      prompts.map((prompt) =>
        pipeline.caption({ image, lane: 'batch', prompt }).then(({ caption }) => caption),
      ),
    )
    expect(captions.slice(3)).toEqual(captions.slice(0, 3))
  })

  it('ends each image of a batch at its own maximum of tokens and texts, and says why', async () => {
    const image = await picture('red')
    const caption = (end: Partial<CaptionTask>) => pipeline.caption({ image, lane: 'batch', ...end })
    const whole = await caption({})
    const words = whole.caption.split(' ')
    const limits = [undefined, 1, 2, 3, 1000]
    const captions = await Promise.all(limits.map((maxTokens) => caption({ maxTokens })))
    captions.forEach(({ caption, finish_reason, turbine }, index) => {
      const limit = limits[index] ?? 1000
      expect(whole.caption.startsWith(caption)).toBe(true)
      expect(turbine.output_tokens).toBe(Math.min(limit, whole.turbine.output_tokens))
      expect(finish_reason).toBe(limit < whole.turbine.output_tokens ? 'length' : whole.finish_reason)
    })
    const stopped = await caption({ stop: [words[1]!, 'never'] })
    expect(stopped).toMatchObject({ caption: whole.caption.split(words[1]!)[0], finish_reason: 'stop' })
    expect(stopped.turbine.output_tokens).toBeLessThan(whole.turbine.output_tokens)
  })

  it.each([
    ['a level that is not there', { level: 99 }, 'level_unknown'],
    ['a prompt that fills the caption', { prompt: 'a '.repeat(30) }, 'prompt_too_long'],
    ['more images than the model takes', { images: [Buffer.alloc(1), Buffer.alloc(1)] }, 'too_many_images'],
    ['bytes that are no image', { image: Buffer.from('hello') }, 'image_invalid'],
    ['nothing', { image: Buffer.alloc(0) }, 'image_invalid'],
  ])('refuses %s and goes on', async (_, change, code) => {
    const image = await picture('red')
    await expect(pipeline.caption({ image, lane: 'batch', ...change })).rejects.toMatchObject({ code })
    await expect(pipeline.caption({ image, lane: 'batch' })).resolves.toMatchObject({
      turbine: { prune_level: 0 },
    })
  })

  it('lets go of an image whose caller has gone', async () => {
    const image = await picture('red')
    const gone = new AbortController()
    const others = Array.from({ length: 8 }, () => pipeline.caption({ image, lane: 'batch' }))
    const abandoned = pipeline.caption({ image, lane: 'batch', signal: gone.signal })
    gone.abort(new Error('gone'))
    await expect(abandoned).rejects.toThrow('gone')
    expect(await Promise.all(others)).toHaveLength(8)
  })

  it('finishes what it has before it closes, and takes nothing more', async () => {
    const other = await start()
    const image = await picture('red')
    const taken = Array.from({ length: 5 }, () => other.caption({ image, lane: 'batch' }))
    const closed = other.close()
    await expect(other.caption({ image, lane: 'batch' })).rejects.toMatchObject({ code: 'shutting_down' })
    await closed
    expect(await Promise.all(taken)).toHaveLength(5)
  })

  it('holds no more decoded pictures than fit, and counts those that wait for it as waiting', async () => {
    const image = await picture('red')
    const bytes = mostPictureBytes((await openModel(tinyBlip)).picture)
    // A lane has a half, and an owner a half of that: two pictures.
    const small = await start({ pictures: new PictureMemory(8 * bytes), queueLimit: 20 })
    const most: number[] = []
    const captions = Array.from({ length: 12 }, () => small.caption({ image, lane: 'interactive' }))
    const watched = captions.map((caption) =>
      caption.finally(() => most.push(small.pictures.reserved('interactive'))),
    )
    expect(small.pictures.reserved('interactive')).toBe(2 * bytes)
    await Promise.all(watched)
    expect(Math.max(...most)).toBe(2 * bytes)
    expect(small.pictures.reserved('interactive')).toBe(0)
    await small.close()

    const full = await start({ pictures: new PictureMemory(8 * bytes), queueLimit: 3 })
    const results = await Promise.allSettled(
      Array.from({ length: 12 }, () => full.caption({ image, lane: 'interactive' })),
    )
    const refused = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
    expect(refused).toHaveLength(7)
    for (const reason of refused)
      expect(reason).toMatchObject({ code: 'queue_full', status: 429, retryAfterSeconds: expect.any(Number) })
    await full.close()
  })

  it('turns images away when its queue is full', async () => {
    const small = await start({ queueLimit: 2 })
    const image = await picture('red')
    const results = await Promise.allSettled(
      Array.from({ length: 40 }, () => small.caption({ image, lane: 'interactive' })),
    )
    const refused = results.filter((result) => result.status === 'rejected')
    for (const { reason } of refused)
      expect(reason).toMatchObject({ code: 'queue_full', status: 429, retriable: true })
    expect(results.length - refused.length).toBeGreaterThan(0)
    await small.close()
  })
})
