import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { MadeIds, PartTime, RunRow } from '../engine/batch.ts'
import { DevicePool } from '../engine/device-pool.ts'
import type { GenerationSettings } from '../models/generation.ts'
import type { CaptionModel } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { wholePicture } from '../models/pictures.ts'
import { type ReferenceCase, referenceOf } from '../models/reference.fixture.ts'
import { readExpected, tinyBlip } from '../models/tiny-blip.fixture.ts'
import { Pipeline } from './pipeline.ts'

const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const families = ['smolvlm', 'llava', 'qwen2-vl', 'vit-gpt2', 'florence2']

interface Case extends ReferenceCase {
  ids: number[]
  ended: boolean
  maxNewTokens: number
  /** What differs from the folder's own settings. */
  options: {
    repetition_penalty?: number
    no_repeat_ngram_size?: number
    num_beams?: number
    early_stopping?: boolean
    forced_eos_token_id?: null
  }
}

interface BeamsEntry {
  options: Case['options'] & { length_penalty?: number }
  ids: number[][]
  prompted: number[][]
}

/** Settings of a case beside those of its folder. */
const askedOf = ({ options }: Case) => settingsIn(options)

function settingsIn(options: BeamsEntry['options']): Partial<GenerationSettings> {
  const asked = {
    temperature: 0,
    lengthPenalty: options.length_penalty,
    repetitionPenalty: options.repetition_penalty,
    noRepeatNgram: options.no_repeat_ngram_size,
    beams: options.num_beams,
    earlyStopping: options.early_stopping,
  }
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined))
}

interface TaggerCase extends Pick<ReferenceCase, 'name' | 'views'> {
  scores: number[]
  general: string[]
  characters: string[]
}

const textOf = (given: Case, role: string) =>
  given.messages
    .filter((message) => message.role === role)
    .flatMap(({ content }) => content.flatMap(({ text }) => (text === undefined ? [] : [text])))
    .join('')

const requestOf = (given: Case) => ({
  system: textOf(given, 'system'),
  text: textOf(given, 'user'),
  beginning: given.beginning,
})

describe.each(families)('%s', (name) => {
  const reference = referenceOf(name)
  const cases = reference.cases as Case[]
  let model: CaptionModel
  let pool: DevicePool

  beforeAll(async () => {
    model = await openModel(reference.folder)
    pool = await DevicePool.start({ model, devices: [cpu], intraOpThreads: 1, buckets: [1, 2, 4, 8] })
  })
  afterAll(() => pool.close())

  /** The pixels are those of Hugging Face: each view may have settings of its own. */
  async function rowOf(given: Case): Promise<RunRow> {
    const pictures = given.views.map((name) => {
      const view = reference.views[name]!
      const bytes = reference.pixels(view)
      const pixels = new Uint8Array(new SharedArrayBuffer(bytes.length))
      pixels.set(bytes)
      return { pixels, shape: view.shape }
    })
    const prompt = await model.encode({ ...requestOf(given), pictures: pictures.map(({ shape }) => shape) })
    const settings = { ...model.generation, ...askedOf(given), maxTokens: given.maxNewTokens }
    return { pictures, prompt, settings }
  }
  const run = (rows: RunRow[]) => pool.devices[0]!.run({ rows, schedule: model.levels[0]! })
  /** An end that the folder forces upon a caption is none of its own; some cases are made without. */
  const expected = ({ ids, ended, maxNewTokens }: Case) => {
    const { forcedEndId } = model.runner as { forcedEndId?: number }
    const isForced = forcedEndId !== undefined && ids.length === maxNewTokens
    return isForced ? { ids: ids.with(-1, forcedEndId), ended: false } : { ids, ended }
  }

  it('makes the ids of transformers, whatever is asked', async () => {
    for (const given of cases)
      expect((await run([await rowOf(given)])).rows, given.name).toEqual([expected(given)])
  })

  it('makes the same in batches of different prompts', async () => {
    for (let at = 0; at + 5 <= cases.length; at += 5) {
      const batch = cases.slice(at, at + 5)
      expect((await run(await Promise.all(batch.map(rowOf)))).rows).toEqual(batch.map(expected))
    }
  })

  it('makes the same of rows that join a batch at different times, and of those before them', async () => {
    if (model.runner.kind !== 'vision-language') return
    const told = new Map<number, MadeIds>()
    const times: PartTime[] = []
    const failed: number[] = []
    const wrong = await rowOf(cases.find(({ views }) => views.length > 0)!)
    const broken = { ...wrong, prompt: { ...wrong.prompt, places: wrong.prompt.places.slice(1) } }
    const coming = await Promise.all(
      cases.slice(1).map(async (given) => ({ given, row: await rowOf(given) })),
    )
    const asked: Case[] = [cases[0]!]
    const waiting = new Int32Array(new SharedArrayBuffer(4)).fill(1)
    let mostRunning = 0
    const { rows } = await pool.devices[0]!.run({
      rows: [await rowOf(cases[0]!)],
      schedule: model.levels[0]!,
      onMade: (made) => told.set(made.row, made),
      joining: {
        waiting,
        next(running) {
          mostRunning = Math.max(mostRunning, running)
          // One that cannot be run is in nobody's way.
          const isBroken = asked.length === 3 && failed.length === 0
          const group = isBroken ? [] : coming.splice(0, running < 3 ? 2 : 0)
          asked.push(...(isBroken ? [cases[0]!] : group.map(({ given }) => given)))
          Atomics.store(waiting, 0, coming.length)
          const joined = isBroken ? [broken] : group.map(({ row }) => row)
          return joined.length > 0 ? { rows: joined, schedule: model.levels[0]! } : undefined
        },
        onTime: (time) => times.push(time),
        onFailed: (those) => failed.push(...those),
      },
    })
    expect(failed).toEqual([3])
    expect(told.size).toBe(asked.length - 1)
    for (const [row, { ids, ended }] of told)
      expect({ ids, ended }, asked[row]!.name).toEqual(expected(asked[row]!))
    expect(rows).toEqual([expected(cases[0]!)])
    expect(mostRunning).toBeGreaterThan(1)
    const begun = times.filter(({ steps }) => steps === 0).flatMap((time) => time.rows)
    expect(begun).toEqual([...told.keys()].sort((a, b) => a - b))
    for (const { ms } of times) expect(ms).toBeGreaterThan(0)
  })

  it('passes its self-test', () => model.selfTest!({ session: { intraOpNumThreads: 1 } }))

  it('captions at every level', async () => {
    for (const schedule of model.levels) {
      const { rows } = await pool.devices[0]!.run({ rows: [await rowOf(cases[0]!)], schedule })
      expect(rows[0]!.ids.length).toBeGreaterThan(0)
    }
  })

  it('captions files through the whole pipeline, many at a time', async () => {
    const pipeline = await Pipeline.start({
      ...{ model, devices: [cpu], intraOpThreads: 1, buckets: [1, 2, 4], queueLimit: 100 },
      interactiveTargetMs: 60_000,
      rules: { endLoops: false },
    })
    try {
      const plain = cases.filter(({ views }) =>
        views.every((name) => Object.keys(reference.views[name]!.options).length === 0),
      )
      const images = (given: Case) => given.views.map((name) => reference.picture(reference.views[name]!))
      const asks = ({ options }: Case) => Object.keys(options).length
      const some = plain
        .filter(({ views }) => views.length > 0)
        .toSorted((a, b) => asks(a) - asks(b))
        .slice(0, 4)
      expect(some.some((given) => asks(given) === 0)).toBe(true)
      const shown: string[] = []
      const captions = await Promise.all(
        some.map((given) =>
          pipeline.caption({
            ...{ image: images(given)[0]!, images: images(given), lane: 'interactive' },
            ...{ request: requestOf(given), settings: askedOf(given), maxTokens: given.maxNewTokens },
            onText: (text) => shown.push(text),
          }),
        ),
      )
      for (const [index, { caption, finish_reason, turbine }] of captions.entries()) {
        const given = some[index]!
        const { answer = Number.POSITIVE_INFINITY, ids } = (await rowOf(given)).prompt
        const made = expected(given)
        expect(caption, given.name).toBe(model.decode([...ids.slice(answer), ...made.ids]))
        expect(finish_reason).toBe(made.ended ? 'stop' : 'length')
        expect(turbine.output_tokens).toBe(given.ids.length)
        expect(turbine.tokens_in).toBeGreaterThan(0)
      }
      const most = pipeline.can.max_pixels
      if (most !== undefined) {
        const image = reference.picture(Object.values(reference.views).find(({ shape }) => shape.count > 1)!)
        const seen = async (maxPixels: number) =>
          (await pipeline.caption({ image, lane: 'interactive', maxPixels, maxTokens: 2 })).turbine
        const [fewest, all, more] = [await seen(1), await seen(most), await seen(10 * most)]
        expect(fewest.tokens_in).toBeLessThan(all.tokens_in)
        expect(more.tokens_in).toBe(all.tokens_in)
      }
      if (model.runner.kind === 'vision-language') expect(shown.length).toBeGreaterThan(some.length)
    } finally {
      await pipeline.close()
    }
  })
})

describe('wd-tagger', () => {
  const reference = referenceOf('wd-tagger')
  const cases = reference.cases as unknown as TaggerCase[]

  it('names the tags of its reference, and fewer tokens at higher levels', async () => {
    const model = await openModel(reference.folder)
    expect(model.levels.length).toBeGreaterThan(3)
    const pipeline = await Pipeline.start({
      ...{ model, devices: [cpu], intraOpThreads: 1, buckets: [1, 2, 4], queueLimit: 100 },
      interactiveTargetMs: 60_000,
    })
    try {
      const image = ({ views }: TaggerCase) => reference.picture(reference.views[views[0]!]!)
      const tagged = await Promise.all(
        cases.map((given) => pipeline.caption({ image: image(given), lane: 'interactive', level: 0 })),
      )
      tagged.forEach(({ caption, turbine }, index) => {
        const { name, general, characters, scores } = cases[index]!
        expect(caption, name).toBe([...characters, ...general].join(', '))
        expect(turbine.tags!.map((tag) => tag.name)).toEqual([...characters, ...general])
        for (const { score } of turbine.tags!)
          expect(Math.min(...scores.map((each) => Math.abs(each - score)))).toBeLessThan(1e-4)
        expect(turbine.tokens_out).toBe(turbine.tokens_in)
      })
      for (const [level, { tokensOut }] of model.levels.entries()) {
        const { turbine } = await pipeline.caption({ image: image(cases[0]!), lane: 'interactive', level })
        expect(turbine).toMatchObject({ tokens_in: model.encoder.tokens, tokens_out: tokensOut })
      }
    } finally {
      await pipeline.close()
    }
  })

  it('gives the tags up to a text that ends them, and all of them with their scores', async () => {
    const { folder } = referenceOf('wd-tagger')
    const image = referenceOf('llava').picture(referenceOf('llava').views.landscape!)
    const model = await openModel(folder)
    const pipeline = await Pipeline.start({
      ...{ model, devices: [cpu], intraOpThreads: 1, buckets: [1], queueLimit: 9 },
      interactiveTargetMs: 60_000,
    })
    try {
      const all = await pipeline.caption({ image, lane: 'interactive' })
      const names = all.turbine.tags!.map(({ name }) => name)
      expect(all.caption).toBe(names.join(', '))
      const cut = await pipeline.caption({ image, lane: 'interactive', stop: [`, ${names[2]}`] })
      expect(cut.caption).toBe(names.slice(0, 2).join(', '))
      expect(cut).toMatchObject({
        finish_reason: 'stop',
        turbine: { output_tokens: 0, tags: all.turbine.tags },
      })
    } finally {
      await pipeline.close()
    }
  })

  it('passes its self-test', async () =>
    (await openModel(reference.folder)).selfTest!({ session: { intraOpNumThreads: 1 } }))
})

describe('blip', () => {
  it('searches with beams, and guards, as transformers does', async () => {
    const model = await openModel(tinyBlip)
    const entries: BeamsEntry[] = JSON.parse(await readFile(join(tinyBlip, 'beams.json'), 'utf8'))
    const { pixels, prompt } = await readExpected()
    const bytes = pixels.length / 3
    const pictureOf = (index: number) => {
      const shared = new Uint8Array(new SharedArrayBuffer(bytes))
      shared.set(pixels.subarray(index * bytes, (index + 1) * bytes))
      return { pixels: shared, shape: wholePicture }
    }
    const pool = await DevicePool.start({ model, devices: [cpu], intraOpThreads: 1, buckets: [1, 4] })
    try {
      for (const { options, ids, prompted } of entries)
        for (const [name, expected] of Object.entries({ ids, prompted })) {
          const settings = { ...model.generation, ...settingsIn(options) }
          const rows = expected.map((all, index): RunRow => {
            const begun = name === 'ids' ? [] : prompt[index]!.slice(1, -1)
            const first = [all[0]!, ...begun]
            expect(all.slice(0, first.length)).toEqual(first)
            return { pictures: [pictureOf(index)], prompt: { ids: first, places: [] }, settings }
          })
          // With one that is greedy beside.
          const greedy = { ...rows[0]!, settings: model.generation }
          const run = (batch: RunRow[]) => pool.devices[0]!.run({ rows: batch, schedule: model.levels[0]! })
          const alone = await run([greedy])
          const made = await run([rows[0]!, greedy, ...rows.slice(1)])
          expect(made.rows[1]).toEqual(alone.rows[0])
          const behind = expected.map((all, index) => all.slice(rows[index]!.prompt.ids.length))
          expect(made.rows.toSpliced(1, 1).map((row) => row.ids)).toEqual(behind)
        }
    } finally {
      await pool.close()
    }
  })
})
