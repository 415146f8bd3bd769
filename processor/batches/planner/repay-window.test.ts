import { expect, test } from 'vitest'
import { RepayWindow } from './repay-window.ts'

test('asks for more as long as devices are idle', () => {
  const window = new RepayWindow()
  expect(window.size(0)).toBe(2)
  for (let i = 0; i < 6; i++) window.grow()
  expect(window.size(0)).toBe(8)
})

test('rests when they are busy, and asks for half as much then', () => {
  const window = new RepayWindow()
  for (let i = 0; i < 6; i++) window.grow()
  window.shrink(1_000)
  window.shrink(2_000)
  expect([window.size(2_000), window.size(11_999), window.size(12_000)]).toEqual([0, 0, 4])
  window.shrink(20_000)
  window.shrink(40_000)
  expect(window.size(60_000)).toBe(2)
})
