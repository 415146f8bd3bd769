import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GrowingTexts } from './growing-texts.ts'

const part = (from: number, text: string, index = 0) => ({ index, from, text })

describe('a text', () => {
  test.each([
    ['in order', [part(0, 'a '), part(2, 'dog')], ['a ', 'dog']],
    ['twice', [part(0, 'a '), part(0, 'a '), part(2, 'dog'), part(2, 'dog')], ['a ', '', 'dog', '']],
    ['with what was not acknowledged', [part(0, 'a '), part(0, 'a dog')], ['a ', 'dog']],
    ['of which a part was lost', [part(0, 'a '), part(4, 'g'), part(2, 'dog')], ['a ', '', 'dog']],
    ['late', [part(0, 'a dog'), part(0, 'a ')], ['a dog', '']],
    ['again, and another', [part(0, 'a dog'), part(0, 'a cat sits'), part(5, ' runs')], ['a dog', '', '']],
    ['beside others', [part(0, 'a', 1), part(0, 'the'), part(1, ' dog', 1)], ['a', 'the', ' dog']],
  ])('that comes %s', (_, parts, fresh) => {
    const texts = new GrowingTexts()
    expect(parts.map((each) => texts.add(each))).toEqual(fresh)
  })

  test('is the same in whatever order its parts come, as often as they like', () => {
    const caption = 'a small orange fish 🐟 in a meadow by day'
    const parts = fc.array(fc.tuple(fc.nat(caption.length), fc.nat(caption.length)), { maxLength: 30 })
    fc.assert(
      fc.property(parts, (cuts) => {
        const texts = new GrowingTexts()
        const shown = cuts.map(([from, to]) => texts.add(part(from, caption.slice(from, to)))).join('')
        expect(shown + texts.rest(0, caption)).toBe(caption)
      }),
    )
  })

  test('has a rest unless it is another', () => {
    const texts = new GrowingTexts()
    texts.add(part(0, 'a dog'))
    expect(texts.rest(0, 'a dog runs')).toBe(' runs')
    expect(texts.rest(0, 'a ')).toBe('')
    expect(texts.rest(0, 'a cat')).toBeUndefined()
    expect(texts.rest(1, 'a cat')).toBe('a cat')
  })
})
