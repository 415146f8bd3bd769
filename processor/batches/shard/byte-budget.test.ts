import { expect, test } from 'vitest'
import { ByteBudget } from './byte-budget.ts'

/** Asks for bytes in turn; `granted` has the order in which they were given. */
function ask(budget: ByteBudget, sizes: number[]) {
  const granted: number[] = []
  const reservations = sizes.map(async (size, index) => {
    const reservation = await budget.reserve(size)
    granted.push(index)
    return reservation
  })
  return { granted, reservations }
}
const settle = () => new Promise((resolve) => setImmediate(resolve))

test('what does not fit waits until enough is given back, first come, first served', async () => {
  const budget = new ByteBudget(100)
  const { granted, reservations } = ask(budget, [60, 60, 10])
  await settle()
  expect([granted, budget.reserved]).toEqual([[0], 60])
  ;(await reservations[0]!).shrink(40)
  await settle()
  expect([granted, budget.reserved]).toEqual([[0, 1], 100])
  ;(await reservations[1]!).release()
  await settle()
  expect([granted, budget.reserved]).toEqual([[0, 1, 2], 50])
})

test('what is given back twice, or grows, changes nothing', async () => {
  const budget = new ByteBudget(100)
  const reservation = await budget.reserve(50)
  reservation.shrink(20)
  reservation.shrink(40)
  expect(budget.reserved).toBe(20)
  reservation.release()
  reservation.release()
  expect(budget.reserved).toBe(0)
})

test('what is larger than the budget gets all of it, alone', async () => {
  const budget = new ByteBudget(100)
  const { granted, reservations } = ask(budget, [1, 1000, 1])
  await settle()
  expect(granted).toEqual([0])
  ;(await reservations[0]!).release()
  await settle()
  expect([granted, budget.reserved]).toEqual([[0, 1], 100])
  ;(await reservations[1]!).release()
  await settle()
  expect([granted, budget.reserved]).toEqual([[0, 1, 2], 1])
})
