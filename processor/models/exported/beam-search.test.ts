import { describe, expect, it } from 'vitest'
import { readGenerationDefaults } from '../generation.ts'
import { beamSearch, beamSessions } from './beam-search.ts'
import { openFamily, openOriginals, startIds } from './families.fixture.ts'

describe.each(['vit-gpt2', 'florence2'])('%s', (name) => {
  it('gives the ids of transformers by a beam search', async () => {
    const family = openFamily(name)
    const originals = await openOriginals(family)
    const { forcedEndId } = await readGenerationDefaults(family.folder)
    const sessions = beamSessions(originals)
    const byForce = Map.groupBy(
      family.reference.cases,
      ({ options }) => options.forced_eos_token_id !== null && forcedEndId !== undefined,
    )
    expect(family.reference.cases.filter(({ options }) => options.num_beams !== 1).length).toBeGreaterThan(1)
    for (const [isForced, cases] of byForce) {
      const options = {
        endIds: family.reference.ids.end,
        startIds: startIds(family),
        prompted: name === 'vit-gpt2',
        ...(isForced && { forcedEndId }),
      }
      const rows = await Promise.all(cases.map(family.row))
      for (const [at, row] of rows.entries()) {
        const [result] = await beamSearch(sessions, [row], options)
        expect(result!.ids, cases[at]!.name).toEqual(cases[at]!.ids)
      }
      // Together: rows of one beam and of several, whose captions end apart.
      const together = await beamSearch(sessions, rows, options)
      expect(together.map(({ ids }) => ids)).toEqual(cases.map(({ ids }) => ids))
    }
  })
})
