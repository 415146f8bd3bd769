import { beforeAll, describe, expect, it } from 'vitest'
import { splitInvariant } from '../../onnx/invariant.ts'
import { decodeModel } from '../../onnx/proto.ts'
import {
  type Family,
  generateGraph,
  openFamily,
  openFamilyGenerator,
  openOriginals,
  type ReferenceCase,
  startIds,
} from './families.fixture.ts'
import type { Generator } from './generator.ts'
import type { GenerateMetadata } from './graph.ts'
import type { GenerateRow } from './rows.ts'
import { firstDifference } from './self-test.ts'
import { stepByStep } from './step-by-step.ts'

const names = ['smolvlm', 'llava', 'qwen2-vl', 'vit-gpt2', 'florence2']

describe.each(names)('%s', (name) => {
  let family: Family
  let generator: Generator
  let metadata: GenerateMetadata
  let cases: ReferenceCase[]
  let rows: GenerateRow[]
  beforeAll(async () => {
    family = openFamily(name)
    ;({ generator, metadata } = await openFamilyGenerator(family))
    const all = await Promise.all(
      family.reference.cases.map(async (each) => ({ each, row: await family.row(each) })),
    )
    const greedy = all.filter(({ row }) => row.settings.beams === 1)
    cases = greedy.map(({ each }) => each)
    rows = greedy.map(({ row }) => row)
  })
  const expected = () => cases.map(({ ids, ended }) => ({ ids, ended }))

  it('gives the ids of transformers, one row at a time', async () => {
    const results = []
    for (const row of rows) results.push(...(await generator.generate([row])))
    expect(results).toEqual(expected())
  })

  it('gives the same in batches of different prompts and lengths', async () => {
    for (let at = 0; at < rows.length; at += 5)
      expect(await generator.generate(rows.slice(at, at + 5))).toEqual(expected().slice(at, at + 5))
    expect(await generator.generate(rows)).toEqual(expected())
  })

  it('gives what its files give step by step', async () => {
    const originals = await openOriginals(family)
    const options = { endIds: metadata.endIds, startIds: startIds(family) }
    for (const [at, row] of rows.entries()) {
      const { settings } = row
      if (settings.repetitionPenalty !== 1 || settings.noRepeatNgram > 0) continue
      const forced = metadata.form === 'encoder' ? options.startIds.slice(1) : []
      const { ids } = await stepByStep(originals, row, {
        ...options,
        steps: settings.maxTokens - forced.length,
      })
      expect([...forced, ...ids]).toEqual(cases[at]!.ids)
    }
  })

  it('computes nothing in each round that is the same in all of them', () => {
    const { graph } = decodeModel(generateGraph(family).model)
    const loop = graph.node.find(({ opType }) => opType === 'Loop')!
    const body = loop.attribute!.find(({ name: attribute }) => attribute === 'body')!.g!
    const { once } = splitInvariant(body.node, {
      changing: body.input.map((input) => input.name),
      given: body.output.map((output) => output.name),
      constants: new Set(graph.initializer!.map((weight) => weight.name)),
    })
    expect(once).toEqual([])
  })

  it('gives the same in chunks, and tells each as it comes', async () => {
    if (metadata.form !== 'decoder') return
    const some = [3, rows.length].map((count) => ({
      rows: rows.slice(0, count),
      expected: expected().slice(0, count),
    }))
    for (const [at, chunk] of [1, 7].entries()) {
      const told = some[at]!.rows.map((): number[] => [])
      const sizes: number[] = []
      const onTokens = (row: number, ids: number[]) => {
        told[row]!.push(...ids)
        sizes.push(ids.length)
      }
      const results = await generator.generate(some[at]!.rows, { chunk, onTokens })
      expect(results).toEqual(some[at]!.expected)
      expect(told).toEqual(results.map(({ ids }) => ids))
      expect(Math.max(...sizes)).toBe(chunk)
    }
  })

  it('gives rows that join the ids that they have alone', async () => {
    if (metadata.form !== 'decoder') return
    let next = 2
    const more = (running: number) => (running < 4 && next < rows.length ? [rows[next++]!] : [])
    expect(await generator.generate(rows.slice(0, 2), { chunk: 3, more })).toEqual(expected())
  })

  it('goes on where rows that join cannot begin', async () => {
    if (metadata.form !== 'decoder') return
    const broken = { ...rows[1]!, features: rows[1]!.features.subarray(metadata.width) }
    const coming = [[broken], [rows[2]!]]
    const failed: number[] = []
    const results = await generator.generate(rows.slice(0, 1), {
      chunk: 2,
      more: async () => coming.shift() ?? [],
      onFailed: (numbers) => failed.push(...numbers),
    })
    expect(failed).toEqual([1])
    expect([results[0], results[2]]).toEqual([expected()[0], expected()[2]])
    await expect(generator.generate(rows.slice(0, 1), { chunk: 2, more: () => [broken] })).rejects.toThrow()
  })
})

describe.each([
  ['_fp16', true],
  ['_q4', true],
  ['_quantized', false],
])('smolvlm%s', (suffix, batchInvariant) => {
  it('gives what its files give step by step, in batches where rows do not depend on each other', async () => {
    const family = openFamily('smolvlm')
    const { generator, metadata } = await openFamilyGenerator(family, { suffix })
    expect(metadata.batchInvariant).toBe(batchInvariant)
    const originals = await openOriginals(family, suffix)
    const rows = await Promise.all(family.reference.cases.slice(0, 4).map((each) => family.row(each)))
    const expected = []
    for (const row of rows) {
      const steps = await stepByStep(originals, row, {
        endIds: metadata.endIds,
        steps: row.settings.maxTokens,
      })
      const [alone] = await generator.generate([row])
      expect(firstDifference(alone!.ids, steps)).toBeUndefined()
      expected.push(alone)
    }
    if (!batchInvariant) return
    expect(await generator.generate(rows)).toEqual(expected)
    expect(await generator.generate(rows, { chunk: 5 })).toEqual(expected)
  })
})

describe('rows', () => {
  let family: Family
  let generator: Generator
  let rows: GenerateRow[]
  const [first, second] = [0, 2]
  beforeAll(async () => {
    family = openFamily('smolvlm')
    ;({ generator } = await openFamilyGenerator(family))
    rows = await Promise.all(family.reference.cases.map((each) => family.row(each)))
  })
  const idsOf = (at: number) => family.reference.cases[at]!.ids
  const withSettings = (at: number, settings: Partial<GenerateRow['settings']>): GenerateRow => ({
    ...rows[at]!,
    settings: { ...rows[at]!.settings, ...settings },
  })

  it('have limits of their own', async () => {
    const results = await generator.generate([
      withSettings(first, { maxTokens: 3 }),
      withSettings(second, { maxTokens: 1 }),
      withSettings(first, { maxTokens: 0 }),
      rows[second]!,
    ])
    expect(results).toEqual([
      { ids: idsOf(first).slice(0, 3), ended: false },
      { ids: idsOf(second).slice(0, 1), ended: false },
      { ids: [], ended: false },
      { ids: idsOf(second), ended: true },
    ])
  })

  it('leave when their caller does, and the others go on', async () => {
    const onTokens = (row: number) => row !== 0
    const results = await generator.generate([rows[first]!, rows[second]!], { chunk: 4, onTokens })
    expect(results).toEqual([
      { ids: idsOf(first).slice(0, 4), ended: false },
      { ids: idsOf(second), ended: true },
    ])
  })

  it('make no end id too soon', async () => {
    const minTokens = idsOf(second).length + 2
    const [whole] = await generator.generate([withSettings(second, { minTokens })])
    expect(whole!.ids.slice(0, idsOf(second).length - 1)).toEqual(idsOf(second).slice(0, -1))
    expect(whole!.ids.length).toBeGreaterThanOrEqual(minTokens)
    expect(
      await generator.generate([withSettings(second, { minTokens }), rows[first]!], { chunk: 4 }),
    ).toEqual([whole, { ids: idsOf(first), ended: true }])
  })

  describe('that are drawn', () => {
    const drawn = (at: number, seed: number, more = {}) =>
      withSettings(at, { temperature: 1.5, topP: 0.95, seed, ...more })

    it('depend on their seed, and on nothing around them', async () => {
      const seeded = [drawn(first, 1), drawn(first, 2), drawn(second, 1), rows[first]!]
      const alone = []
      for (const row of seeded) alone.push(...(await generator.generate([row])))
      expect(new Set(alone.map(({ ids }) => ids.join())).size).toBe(4)
      expect(alone[3]!.ids).toEqual(idsOf(first))
      expect(await generator.generate(seeded)).toEqual(alone)
      expect(await generator.generate(seeded, { chunk: 5 })).toEqual(alone)
      expect(
        await generator.generate(seeded.slice(0, 1), {
          chunk: 4,
          more: (() => {
            const rest = seeded.slice(1)
            return () => rest.splice(0, 1)
          })(),
        }),
      ).toEqual(alone)
    })

    it('are greedy with one candidate, or with next to no probability', async () => {
      const greedy = [
        drawn(first, 1, { topK: 1 }),
        drawn(first, 1, { topP: 1e-6 }),
        drawn(first, 1, { temperature: 1e-4 }),
      ]
      for (const { ids } of await generator.generate(greedy)) expect(ids).toEqual(idsOf(first))
    })

    it('have a seed of their own when none is given', async () => {
      let seed = 0
      const { generator: counting } = await openFamilyGenerator(family, { chooseSeed: () => seed++ })
      const row = withSettings(first, { temperature: 1.5 })
      const [a, b] = await counting.generate([row, row])
      expect(a!.ids).not.toEqual(b!.ids)
    })
  })

  it('repeat less with penalties, whatever the chunks', async () => {
    const most = (ids: number[]) =>
      Math.max(...[...Map.groupBy(ids, (id) => id).values()].map(({ length }) => length))
    const plain = family.reference.cases.findIndex(({ ids }) => most(ids) > 2)
    const penalised = [
      withSettings(plain, { frequencyPenalty: 100 }),
      withSettings(plain, { presencePenalty: 100 }),
      withSettings(plain, { noRepeatNgram: 1 }),
    ]
    const whole = await generator.generate(penalised)
    // An id that was made is out of reach from then on; those of the prompt are not.
    for (const { ids } of whole) expect(most(ids)).toBe(1)
    expect(whole[0]!.ids).toEqual(whole[1]!.ids)
    expect(await generator.generate(penalised, { chunk: 4 })).toEqual(whole)
    const slightly = await generator.generate([withSettings(plain, { frequencyPenalty: 0.001 })])
    expect(slightly[0]!.ids).toEqual(idsOf(plain))
  })
})
