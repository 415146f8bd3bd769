import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RunRow } from '../engine/batch.ts'
import { DevicePool } from '../engine/device-pool.ts'
import { greedy } from '../models/generation.ts'
import type { CaptionModel } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { hasReference, type ReferenceCase, referenceOf } from '../models/reference.fixture.ts'
import { Pipeline } from './pipeline.ts'

const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const families = ['smolvlm', 'llava', 'qwen2-vl', 'vit-gpt2', 'florence-2', 'florence2'].filter(hasReference)

type Case = ReferenceCase & { ids: number[]; ended: boolean; maxNewTokens: number; options: object }

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
  const cases = (reference.cases as Case[]).filter(({ options }) => Object.keys(options).length === 0)
  let model: CaptionModel
  let pool: DevicePool

  beforeAll(async () => {
    model = await openModel(reference.folder)
    pool = await DevicePool.start({ model, devices: [cpu], intraOpThreads: 1, buckets: [1, 2, 4, 8] })
  })
  afterAll(() => pool.close())

  /** The pixels are those of Hugging Face: each view may have settings of its own. */
  function rowOf(given: Case): RunRow {
    const pictures = given.views.map((name) => {
      const view = reference.views[name]!
      const bytes = reference.pixels(view)
      const pixels = new Uint8Array(new SharedArrayBuffer(bytes.length))
      pixels.set(bytes)
      return { pixels, shape: view.shape }
    })
    const prompt = model.encode({ ...requestOf(given), pictures: pictures.map(({ shape }) => shape) })
    return { pictures, prompt, settings: greedy(given.maxNewTokens) }
  }
  const run = (rows: RunRow[]) => pool.devices[0]!.run({ rows, schedule: model.levels[0]! })
  const expected = ({ ids, ended }: Case) => ({ ids, ended })

  it('makes the ids of transformers, whatever is asked', async () => {
    for (const given of cases) expect((await run([rowOf(given)])).rows, given.name).toEqual([expected(given)])
  })

  it('makes the same in batches of different prompts', async () => {
    for (let at = 0; at + 5 <= cases.length; at += 5) {
      const batch = cases.slice(at, at + 5)
      expect((await run(batch.map(rowOf))).rows).toEqual(batch.map(expected))
    }
  })

  it('passes its self-test', () => model.selfTest!({ session: { intraOpNumThreads: 1 } }))

  it('captions at every level', async () => {
    for (const schedule of model.levels) {
      const { rows } = await pool.devices[0]!.run({ rows: [rowOf(cases[0]!)], schedule })
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
      const some = plain.filter(({ views }) => views.length > 0).slice(0, 4)
      expect(some.length).toBeGreaterThan(0)
      const shown: string[] = []
      const captions = await Promise.all(
        some.map((given) =>
          pipeline.caption({
            ...{ image: images(given)[0]!, images: images(given), lane: 'interactive' },
            ...{ request: requestOf(given), settings: { temperature: 0 }, maxTokens: given.maxNewTokens },
            onText: (text) => shown.push(text),
          }),
        ),
      )
      captions.forEach(({ caption, finish_reason, turbine }, index) => {
        const given = some[index]!
        const { answer = Number.POSITIVE_INFINITY, ids } = rowOf(given).prompt
        expect(caption, given.name).toBe(model.decode([...ids.slice(answer), ...given.ids]))
        expect(finish_reason).toBe(given.ended ? 'stop' : 'length')
        expect(turbine.output_tokens).toBe(given.ids.length)
        expect(turbine.tokens_in).toBeGreaterThan(0)
      })
      if (model.runner.kind === 'vision-language') expect(shown.length).toBeGreaterThan(some.length)
    } finally {
      await pipeline.close()
    }
  })
})
