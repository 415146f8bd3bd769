import { expect, test } from 'vitest'
import { batchSize } from './batch-size.ts'
import { device } from './scenario.fixture.ts'

const whole = device({ fixedMs: 30, rowMs: 5 })
const linear = device({ fixedMs: 0.1, rowMs: 20 })
const fits = () => true

test('takes all in one run where a larger run costs little more', () => {
  expect(batchSize(whole, { images: 100, level: 0, fits })).toBe(16)
  expect(batchSize(whole, { images: 3, level: 0, fits })).toBe(4)
})

test('does not pad where rows cost what they are, nor batch where that gains nothing', () => {
  expect(batchSize(device({ fixedMs: 20, rowMs: 20 }), { images: 5, level: 0, fits })).toBe(4)
  expect(batchSize(linear, { images: 16, level: 0, fits })).toBe(1)
})

test('stays within what fits, and is the least allowed when nothing does', () => {
  expect(batchSize(whole, { images: 16, level: 0, fits: (ms) => ms <= 60 })).toBe(4)
  expect(batchSize(whole, { images: 16, level: 5, fits: (ms) => ms <= 60 })).toBe(8)
  expect(batchSize(whole, { images: 16, level: 0, fits: () => false })).toBe(1)
  expect(batchSize(whole, { images: 16, level: 0, fits: () => false, least: 4 })).toBe(4)
})

test('grows from the least allowed only where that gains', () => {
  expect(batchSize(whole, { images: 16, level: 0, fits, least: 4 })).toBe(16)
  expect(batchSize(linear, { images: 16, level: 0, fits, least: 4 })).toBe(4)
})
