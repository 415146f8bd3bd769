import { describe, expect, it } from 'vitest'
import { readGenerationDefaults } from '../generation.ts'
import { beamSearch } from './beam-search.ts'
import { openFamily, openOriginals, startIds } from './families.fixture.ts'

describe.each(['vit-gpt2', 'florence2'])('%s', (name) => {
  it('gives the ids of transformers by a beam search', async () => {
    const family = openFamily(name)
    const originals = await openOriginals(family)
    const { forcedEndId } = await readGenerationDefaults(family.folder)
    let searched = 0
    for (const each of family.reference.cases) {
      const row = await family.row(each)
      if (row.settings.beams === 1) continue
      const isForced = each.options.forced_eos_token_id !== null && forcedEndId !== undefined
      const options = {
        endIds: family.reference.ids.end,
        startIds: startIds(family),
        ...(isForced && { forcedEndId }),
      }
      expect((await beamSearch(originals, row, options)).ids).toEqual(each.ids)
      searched++
    }
    expect(searched).toBeGreaterThan(1)
  })
})
