import { expect, test } from 'vitest'
import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import { imageFaults } from '../../../infra/fetch/faults.ts'
import { readImageFile } from '../../../infra/fetch/image-file.ts'
import { createImageSource } from '../../../infra/fetch/image-source.ts'
import { FingerprintSet } from '../../../infra/fingerprint-set.ts'
import type { CaptionTask } from '../../pipeline/captioner.ts'
import { FakeCaptioner } from '../captioner.fixture.ts'
import { UsageError } from '../errors.ts'
import { newTotals } from '../progress.ts'
import type { FailureLine, OutputLine } from './earlier-run.ts'
import type { JsonlOutput } from './jsonl-output.ts'
import type { Source } from './manifest.ts'
import { createImageReader, type ReadImage } from './read-image.ts'
import { CaptionerFailedError, type CaptionRun, captionSources } from './run.ts'

class Lines<T extends object> implements JsonlOutput<T> {
  readonly lines: T[] = []
  async append(line: T): Promise<void> {
    this.lines.push(line)
  }
  async close(): Promise<void> {}
}

/** Image `name` has its name as bytes. */
const source = (name: string): Source => ({
  image: name,
  location: `data:;base64,${Buffer.from(name).toString('base64')}`,
})

async function* from(sources: Source[]): AsyncGenerator<Source> {
  yield* sources
}

function runOf(sources: Source[], parts: Partial<CaptionRun> = {}) {
  const captioner = new FakeCaptioner()
  const output = new Lines<OutputLine>()
  const errors = new Lines<FailureLine>()
  const run: CaptionRun = {
    sources: from(sources),
    captioner,
    readImage: createImageReader(
      createImageSource({ fetch: async () => new Response(), maxBytes: 1000, readFile: readImageFile }),
    ),
    output,
    errors,
    done: new FingerprintSet(3),
    tally: newTotals(),
    sleep: async () => {},
    ...parts,
  }
  return { run, captioner, output, errors }
}

test('each image has one line, in order, with the pruning it got', async () => {
  const { run, output, errors } = runOf([source('a'), { ...source('b'), customId: '7' }])
  await captionSources(run)
  expect(output.lines).toEqual([
    {
      custom_id: undefined,
      image: 'a',
      caption: 'caption of a',
      finish_reason: 'stop',
      turbine: {
        prune_level: 1,
        prune_ratio: 0.5,
        tokens_in: 197,
        tokens_out: 99,
        queue_ms: 1.5,
        inference_ms: 12.3,
        model: 'fake',
      },
    },
    expect.objectContaining({ custom_id: '7', image: 'b', caption: 'caption of b' }),
  ])
  expect(errors.lines).toEqual([])
  expect(run.tally).toMatchObject({ captioned: 2, failed: 0, pruneRatioSum: 1 })
})

test('images go in the batch lane with the options of the run', async () => {
  const tasks: CaptionTask[] = []
  const { run } = runOf([source('a')], { task: { level: 2, request: { beginning: 'a picture of' } } })
  run.captioner = new FakeCaptioner({ onTask: (task) => tasks.push(task) })
  await captionSources(run)
  expect(tasks).toMatchObject([{ lane: 'batch', level: 2, prompt: 'a picture of' }])
})

test('a line may have a prompt and a max_prune of its own, and is told by its prompt', async () => {
  const tasks: CaptionTask[] = []
  const lines = [
    source('a'),
    { ...source('a'), prompt: 'a photo of', request: { beginning: 'a photo of' }, maxPrune: 0.5 },
  ]
  const { run, output } = runOf([...lines, ...lines], { task: { request: { beginning: 'a picture of' } } })
  run.captioner = new FakeCaptioner({ onTask: (task) => tasks.push(task) })
  await captionSources(run)
  expect(tasks).toMatchObject([{ prompt: 'a picture of' }, { prompt: 'a photo of', maxPrune: 0.5 }])
  expect(output.lines.map(({ image, prompt }) => [image, prompt])).toEqual([
    ['a', undefined],
    ['a', 'a photo of'],
  ])
  expect(run.tally.skipped).toBe(2)
})

test('an image without an id that is asked in another way is another entry, also of an earlier run', async () => {
  const done = new FingerprintSet(3)
  const captioned = async (task: CaptionRun['task'], ...sources: Source[]) => {
    const { run, output } = runOf(sources, { task })
    await captionSources({ ...run, done })
    return output.lines.map(({ image, asked }) => [image, asked === undefined])
  }
  expect(await captioned(undefined, source('a'))).toEqual([['a', true]])
  expect(await captioned({}, source('a'))).toEqual([])
  for (const task of [
    { maxTokens: 5 },
    { maxTokens: 6 },
    { settings: { temperature: 1, seed: 3 } },
    { stop: ['.'] },
    { request: { text: 'What is it?' } },
  ]) {
    expect(await captioned(task, source('a'))).toEqual([['a', false]])
    expect(await captioned(task, source('a'))).toEqual([])
  }
  const named = { ...source('a'), customId: '1' }
  expect(await captioned({ maxTokens: 5 }, named)).toEqual([['a', true]])
  expect(await captioned({ maxTokens: 6 }, named)).toEqual([])
})

test('a bad image goes to the errors and the rest goes on', async () => {
  const captioner = new FakeCaptioner({
    fail: (name) => (name === 'bad' ? new ImageError('image_invalid', 'Not an image.') : undefined),
  })
  const missing: Source = { image: 'gone.jpg', location: '/nowhere/gone.jpg' }
  const unparsed: Source = {
    image: 'list.jsonl:3',
    error: new TurbineError('No.', { status: 400, code: 'invalid_json_line' }),
  }
  const { run, output, errors } = runOf([source('bad'), missing, unparsed, source('good')], { captioner })
  await captionSources(run)
  expect(output.lines.map(({ image }) => image)).toEqual(['good'])
  expect(errors.lines.map(({ image, error }) => [image, error.code])).toEqual([
    ['bad', 'image_invalid'],
    ['gone.jpg', 'image_not_found'],
    ['list.jsonl:3', 'invalid_json_line'],
  ])
  expect(run.tally).toMatchObject({ captioned: 1, failed: 3 })
})

test('what is done is skipped, and an entry that comes twice is captioned once', async () => {
  const { run, output } = runOf([
    source('a'),
    source('b'),
    source('b'),
    { ...source('b'), customId: 'other' },
  ])
  run.done.add(JSON.stringify(['a', null]))
  await captionSources(run)
  expect(output.lines.map(({ image, custom_id }) => [image, custom_id])).toEqual([
    ['b', undefined],
    ['b', 'other'],
  ])
  expect(run.tally.skipped).toBe(2)
})

test('a full queue is waited for as long as it asks', async () => {
  const pauses: number[] = []
  let refusals = 10
  const captioner = new FakeCaptioner({
    fail: () =>
      refusals-- > 0
        ? new TurbineError('Full.', { status: 429, code: 'queue_full', retryAfterSeconds: 2 })
        : undefined,
  })
  const sleep = async (ms: number) => {
    pauses.push(ms)
  }
  const { run, output } = runOf([source('a')], { captioner, sleep })
  await captionSources(run)
  expect(output.lines).toHaveLength(1)
  expect(pauses).toEqual(new Array(10).fill(2000))
})

test('an address that fails for a moment is tried again, and is the image’s failure when it is given up', async () => {
  const address = (url: string): Source => ({ image: url, location: url })
  const tries: string[] = []
  const readImage = async (url: string) => {
    tries.push(url)
    if (url.endsWith('slow') && tries.length > 100) return Buffer.from('slow')
    const fault = imageFaults.timedOut(10)
    throw url.endsWith('dead') ? imageFaults.givenUp(fault, 60_000) : fault
  }
  const { run, output, errors } = runOf([address('https://x/slow'), address('https://x/dead')], {
    readImage,
    concurrency: 1,
  })
  await captionSources(run)
  expect(output.lines.map(({ caption }) => caption)).toEqual(['caption of slow'])
  expect(errors.lines).toMatchObject([{ image: 'https://x/dead', error: { code: 'image_url_timeout' } }])
  expect(tries.filter((url) => url.endsWith('dead'))).toHaveLength(1)
})

test('hosts that fail for good end no run, however many images they have', async () => {
  const fault = imageFaults.givenUp(imageFaults.badStatus({ status: 503, host: 'x' }), 60_000)
  const readImage = () => Promise.reject(fault)
  const many = Array.from({ length: 20 }, (_, i) => ({ image: `${i}`, location: `https://x/${i}` }))
  const { run, errors } = runOf(many, { readImage })
  await captionSources(run)
  expect(errors.lines).toHaveLength(20)
})

test('images that wait for a slow host hold nothing that others need', async () => {
  const slow = Promise.withResolvers<void>()
  let others = 0
  const readImage: ReadImage = async (url, options) => {
    if (url.startsWith('https://slow')) await slow.promise
    await options?.place?.()
    if (url.startsWith('https://fast') && ++others === 300) slow.resolve()
    return Buffer.from(url)
  }
  const many = Array.from({ length: 600 }, (_, i) => `https://${i < 300 ? 'slow' : 'fast'}/${i}`)
  const { run, output } = runOf(
    many.map((url) => ({ image: url, location: url })),
    { readImage, concurrency: 2 },
  )
  await captionSources(run)
  expect(output.lines.map(({ image }) => image)).toEqual(many)
})

test('an address that is about to be tried again when the run is stopped is left for the next run', async () => {
  const controller = new AbortController()
  const readImage = async () => {
    throw imageFaults.timedOut(1)
  }
  const { signal } = controller
  const sleep = async () => controller.abort()
  const slow: Source = { image: 'https://x/slow', location: 'https://x/slow' }
  const { run, output, errors } = runOf([slow], { readImage, signal, sleep })
  await captionSources(run)
  expect([...output.lines, ...errors.lines]).toEqual([])
})

test('a captioner that fails on and on ends the run, instead of failing a million images', async () => {
  const captioner = new FakeCaptioner({ fail: () => new Error('The device is gone.') })
  const many = Array.from({ length: 100 }, (_, i) => source(`image ${i}`))
  const { run, errors } = runOf(many, { captioner })
  await expect(captionSources(run)).rejects.toThrow(CaptionerFailedError)
  expect(errors.lines).toHaveLength(8)
})

test('options that no image can be captioned with end the run at once', async () => {
  const captioner = new FakeCaptioner({
    fail: () => new TurbineError('The prompt has 99 tokens.', { status: 400, code: 'prompt_too_long' }),
  })
  const { run, errors } = runOf([source('a'), source('b')], { captioner })
  await expect(captionSources(run)).rejects.toThrow(UsageError)
  expect(errors.lines).toEqual([])
})

test('a prompt of a line that is too long is the failure of that line', async () => {
  const captioner = new FakeCaptioner({
    fail: (name) =>
      name === 'a'
        ? new TurbineError('The prompt has 99 tokens.', { status: 400, code: 'prompt_too_long' })
        : undefined,
  })
  const { run, output, errors } = runOf([{ ...source('a'), prompt: 'long' }, source('b')], { captioner })
  await captionSources(run)
  expect(errors.lines).toMatchObject([{ image: 'a', prompt: 'long', error: { code: 'prompt_too_long' } }])
  expect(output.lines).toHaveLength(1)
})

test('a captioner that fails now and then does not end the run', async () => {
  const captioner = new FakeCaptioner({
    fail: (name) => (Number(name) % 8 === 0 ? undefined : new Error('Odd.')),
  })
  const many = Array.from({ length: 40 }, (_, i) => source(String(i)))
  const { run } = runOf(many, { captioner })
  await captionSources(run)
  expect(run.tally).toMatchObject({ captioned: 5, failed: 35 })
})

test('a stop finishes what is in hand, begins nothing, and leaves waiting images for the next run', async () => {
  const controller = new AbortController()
  const captioner = new FakeCaptioner({
    fail: (name) =>
      name === '1' ? new TurbineError('Full.', { status: 429, code: 'queue_full' }) : undefined,
  })
  const many = Array.from({ length: 50 }, (_, i) => source(String(i)))
  const { signal } = controller
  const sleep = async () => controller.abort()
  const { run, output, errors } = runOf(many, { captioner, signal, sleep, concurrency: 3 })
  await captionSources(run)
  const images = output.lines.map(({ image }) => image)
  expect(images).toContain('0')
  expect(images).not.toContain('1')
  expect(images.length).toBeLessThan(5)
  expect(errors.lines).toEqual([])
})
