import { describe, expect, it } from 'vitest'
import { JoinedPixels } from './joined-pixels.ts'

describe('JoinedPixels', () => {
  const picture = (value: number) => new Uint8Array(3).fill(value)

  it('puts pictures one behind the other, batch after batch', () => {
    const joined = new JoinedPixels()
    expect([...joined.join([7, 8, 9].map(picture))]).toEqual([7, 7, 7, 8, 8, 8, 9, 9, 9])
    expect([...joined.join([5, 6].map(picture))]).toEqual([5, 5, 5, 6, 6, 6])
  })

  it('does not copy a lone picture', () => {
    const lone = picture(4)
    expect(new JoinedPixels().join([lone])).toBe(lone)
  })
})
