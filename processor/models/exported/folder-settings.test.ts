import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSession } from '../../onnx/session.ts'
import { type GenerationDefaults, readGenerationDefaults } from '../generation.ts'
import { beamSearch, beamSessions } from './beam-search.ts'
import { type Family, generateGraph, openFamily, openOriginals, startIds } from './families.fixture.ts'
import { openGenerator } from './generator.ts'
import type { GenerateRow, RowResult } from './rows.ts'
import { type Originals, stepByStep } from './step-by-step.ts'

interface Case {
  case: string
  name: string
  fields: Record<string, unknown>
  maxNewTokens: number
  ids: number[]
  ended: boolean
}

/** Fields of generation_config.json that requests cannot set, with the answers of `generate`. */
describe.each(['smolvlm', 'florence2', 'vit-gpt2'])('%s', (name) => {
  let family: Family
  let cases: Case[]
  let originals: Originals
  let folder: string
  beforeAll(async () => {
    family = openFamily(name)
    cases = JSON.parse(await readFile(join(family.folder, 'generation.json'), 'utf8')).cases
    originals = await openOriginals(family)
    folder = await mkdtemp(join(tmpdir(), 'turbine-fields-'))
    await copyFile(join(family.folder, 'config.json'), join(folder, 'config.json'))
  })
  afterAll(() => rm(folder, { recursive: true }))

  const referenceOf = (each: Case) => family.reference.cases.find((other) => other.name === each.case)!

  async function defaultsOf(each: Case): Promise<GenerationDefaults> {
    const own = JSON.parse(await readFile(join(family.folder, 'generation_config.json'), 'utf8'))
    const json = { ...own, ...referenceOf(each).options, ...each.fields }
    await writeFile(join(folder, 'generation_config.json'), JSON.stringify(json))
    const defaults = await readGenerationDefaults(folder, { encoderDecoder: name !== 'smolvlm' })
    // What config.json has, null does not take away there.
    return json.forced_eos_token_id === null ? { ...defaults, forcedEndId: undefined } : defaults
  }

  async function rowOf(each: Case): Promise<GenerateRow> {
    const { settings } = await defaultsOf(each)
    const row = await family.row(referenceOf(each))
    return { ...row, settings: { ...settings, maxTokens: each.maxNewTokens } }
  }

  async function searched(each: Case, rows: GenerateRow[]): Promise<RowResult[]> {
    const { forcedEndId } = await defaultsOf(each)
    return beamSearch(beamSessions(originals), rows, {
      endIds: family.reference.ids.end,
      startIds: startIds(family),
      prompted: name === 'vit-gpt2',
      ...(forcedEndId !== undefined && { forcedEndId }),
    })
  }

  async function looped(each: Case, rows: GenerateRow[]): Promise<RowResult[][]> {
    const { settings, forcedEndId } = await defaultsOf(each)
    const { model, metadata } = generateGraph(family, '', settings.bans)
    const session = await openSession(model, join(family.folder, 'onnx'), { intraOpNumThreads: 1 })
    const generator = openGenerator({
      ...{ session: session as never, metadata, startIds: startIds(family) },
      ...(forcedEndId !== undefined && { forcedEndId }),
    })
    const results = [await generator.generate(rows.slice(0, 1)), await generator.generate(rows, { chunk: 3 })]
    await session.release()
    return results
  }

  it('has the ids of transformers by what its folder says', async () => {
    expect(cases.length).toBeGreaterThan(10)
    for (const each of cases) {
      const row = await rowOf(each)
      const expected = { ids: each.ids, ended: each.ended }
      // Another row beside it, which has other ids at its end.
      const other = await family.row(family.reference.cases.find((case_) => case_.name !== each.case)!)
      const rows = [row, { ...other, settings: row.settings }]
      const label = `${each.case}, ${each.name}`
      if ((row.settings.beams ?? 1) > 1) expect((await searched(each, rows))[0]!.ids, label).toEqual(each.ids)
      else for (const [first] of await looped(each, rows)) expect(first, label).toEqual(expected)
    }
  })

  it('has them step by step, for its self-test', async () => {
    const plain = cases.filter(
      (each) => !['guards', 'min-new', 'min-length'].includes(each.name) && name !== 'florence2',
    )
    for (const each of plain) {
      const row = await rowOf(each)
      if ((row.settings.beams ?? 1) > 1) continue
      const options = { endIds: family.reference.ids.end, startIds: startIds(family), steps: each.ids.length }
      const { ids } = await stepByStep(originals, row, { ...options, bans: row.settings.bans })
      expect(ids, each.name).toEqual(each.ids)
    }
  })
})
