import { hash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { sample, splitPictures } from './split.ts'

const pictures = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ digest: hash('sha256', `picture ${i}`), name: `${i}.jpg` }))
const digests = (list: { digest: string }[]) => list.map(({ digest }) => digest)

describe('splitPictures', () => {
  it('keeps 40 % from the search, and no picture is in both parts', () => {
    const { search, heldOut } = splitPictures(pictures(50), { seed: 1 })
    expect([search.length, heldOut.length]).toEqual([30, 20])
    expect(new Set([...digests(search), ...digests(heldOut)]).size).toBe(50)
  })

  it('follows the content, not the order', () => {
    const all = pictures(40)
    const shuffled = fc.sample(fc.shuffledSubarray(all, { minLength: 40, maxLength: 40 }), 5)
    const expected = splitPictures(all, { seed: 3 })
    for (const order of shuffled) expect(splitPictures(order, { seed: 3 })).toEqual(expected)
  })

  it('is another one with another seed', () => {
    const parts = [1, 2].map((seed) => digests(splitPictures(pictures(40), { seed }).heldOut).sort())
    expect(parts[0]).not.toEqual(parts[1])
  })

  it('takes one of equal pictures, which could fall into both parts otherwise', () => {
    const { search, heldOut } = splitPictures([...pictures(10), ...pictures(10)], { seed: 1 })
    expect(search.length + heldOut.length).toBe(10)
  })
})

describe('sample', () => {
  const names = (count: number) => Array.from({ length: count }, (_, i) => `picture ${i}`)
  async function* each(items: string[]) {
    yield* items
  }
  const options = { count: 7, seed: 1, nameOf: (name: string) => name }

  it('takes all when there are no more', async () => {
    expect((await sample(each(names(7)), options)).sort()).toEqual(names(7))
  })

  it('chooses of many what it would choose of them at once', async () => {
    const byHash = (name: string) => hash('sha256', `1 ${name}`)
    const expected = names(5000)
      .sort((a, b) => (byHash(a) < byHash(b) ? -1 : 1))
      .slice(0, 7)
    expect(await sample(each(names(5000)), options)).toEqual(expected)
  })
})
