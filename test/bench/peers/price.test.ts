import { expect, test } from 'vitest'
import { dollarsPerMillion, machines, parseMachines, pricesOf } from './price.ts'

test('a million images cost what the hours cost that they take', () => {
  // 100 images/s are 360,000 an hour.
  expect(dollarsPerMillion(0.36, 100)).toBeCloseTo(1)
})

test('rates grow with cores', () => {
  const list = [{ name: 'big', dollarsAnHour: 0.72, cores: 8 }]
  expect(pricesOf(list, { turbine: 50, torch: 25 }, 2)).toEqual({
    big: { turbine: expect.closeTo(1), torch: expect.closeTo(2) },
  })
})

test('machines are none, the known ones, or what is given', () => {
  expect(parseMachines('none')).toEqual([])
  expect(parseMachines('list')).toBe(machines)
  expect(parseMachines('a=0.5/4,my-box=1/16')).toEqual([
    { name: 'a', dollarsAnHour: 0.5, cores: 4 },
    { name: 'my-box', dollarsAnHour: 1, cores: 16 },
  ])
})

test.each(['', 'a', 'a=1', 'a=0/4', 'a=1/0', 'a=x/4', 'a=1/4,'])('%j is refused', (text) => {
  expect(() => parseMachines(text)).toThrow('--price is none, list, or NAME=DOLLARS/CORES')
})
