import { describe, expect, it } from 'vitest'
import { beamSearch } from './beam-search.ts'
import { openFamily, openOriginals, startIds } from './families.fixture.ts'

describe.each(['vit-gpt2'])('%s', (name) => {
  it('gives the ids of transformers by a beam search', async () => {
    const family = openFamily(name)
    const originals = await openOriginals(family)
    const cases = family.reference.cases.filter(({ options }) => (options.num_beams ?? 1) > 1)
    expect(cases.length).toBeGreaterThan(1)
    for (const each of cases) {
      const options = { endIds: family.reference.ids.end, startIds: startIds(family) }
      expect((await beamSearch(originals, await family.row(each), options)).ids).toEqual(each.ids)
    }
  })
})
