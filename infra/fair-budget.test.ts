import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FairBudget, type Reservation, type ReserveOptions } from './fair-budget.ts'

/** Reserves, and notes under `name` when it is granted. */
function asking(budget: FairBudget) {
  const granted: string[] = []
  const held = new Map<string, Reservation>()
  const ask = (name: string, owner: string, units: number, options?: ReserveOptions) =>
    void budget.reserve(owner, units, options).then((reservation) => {
      granted.push(name)
      held.set(name, reservation)
    })
  const release = async (name: string) => {
    held.get(name)!.release()
    await turn()
  }
  return { granted, ask, release }
}

describe('FairBudget', () => {
  it('serves the owner that holds the least first', async () => {
    const { granted, ask, release } = asking(new FairBudget({ size: 2 }))
    for (const name of ['a1', 'a2', 'a3', 'a4']) ask(name, 'a', 1)
    ask('b1', 'b', 1)
    await turn()
    expect(granted).toEqual(['a1', 'a2'])
    await release('a1')
    expect(granted.at(-1)).toBe('b1')
  })

  it('serves the lowest priority of an owner first, then the first that came', async () => {
    const { granted, ask, release } = asking(new FairBudget({ size: 1 }))
    ask('first', 'a', 1)
    ask('late', 'a', 1, { priority: 2 })
    ask('urgent', 'a', 1, { priority: 1 })
    ask('urgent too', 'a', 1, { priority: 1 })
    await turn()
    for (const name of ['first', 'urgent', 'urgent too']) await release(name)
    expect(granted).toEqual(['first', 'urgent', 'urgent too', 'late'])
  })

  it('does not let small requests overtake a large one of an owner that holds less', async () => {
    const { granted, ask, release } = asking(new FairBudget({ size: 10 }))
    ask('a1', 'a', 6)
    ask('b large', 'b', 8)
    ask('a2', 'a', 2)
    await turn()
    expect(granted).toEqual(['a1'])
    await release('a1')
    expect(granted).toEqual(['a1', 'b large', 'a2'])
  })

  it('holds an owner to its maximum, and serves others past it', async () => {
    const budget = new FairBudget({ size: 10, perOwner: 4 })
    const { granted, ask, release } = asking(budget)
    ask('a1', 'a', 3)
    ask('a2', 'a', 3)
    await turn()
    expect(budget.refusal('a', 2)).toBe('owner')
    expect(budget.tryReserve('b', 4)).toBeDefined()
    ask('c', 'c', 3)
    await turn()
    expect(granted).toEqual(['a1', 'c'])
    await release('a1')
    expect(granted.at(-1)).toBe('a2')
  })

  it('leaves room for one more owner, however many take what they can get', () => {
    const budget = new FairBudget({ size: 100, leavesRoom: true })
    const taken = ['a', 'b', 'c', 'd'].map((owner) => {
      while (budget.tryReserve(owner, 1));
      return budget.heldBy(owner)
    })
    expect(taken).toEqual([50, 25, 12, 6])
    expect(budget.refusal('a', 1)).toBe('owner')
    expect(budget.refusal('e', 4)).toBe('full')
    expect(budget.refusal('e', 3)).toBeUndefined()
  })

  it('gives who waits for room its turn when there is enough to leave some', async () => {
    const { granted, ask, release } = asking(new FairBudget({ size: 10, leavesRoom: true }))
    ask('a', 'a', 5)
    ask('b', 'b', 4)
    await turn()
    expect(granted).toEqual(['a'])
    await release('a')
    expect(granted).toEqual(['a', 'b'])
  })

  it('gives a request above the maximum all of it', async () => {
    const budget = new FairBudget({ size: 10, perOwner: 4 })
    await budget.reserve('a', 100)
    expect(budget.heldBy('a')).toBe(4)
  })

  it('refuses at once when asked not to wait', () => {
    const budget = new FairBudget({ size: 10, perOwner: 8 })
    const first = budget.tryReserve('a', 8)!
    expect(budget.tryReserve('b', 3)).toBeUndefined()
    expect(budget.refusal('b', 3)).toBe('full')
    expect(first.tryGrow(1)).toBe(false)
    first.shrink(5)
    expect(first.tryGrow(1)).toBe(true)
    first.release()
    first.release()
    expect(budget.reserved).toBe(0)
  })

  it('ends a wait with the reason of its signal, and serves those behind', async () => {
    const budget = new FairBudget({ size: 10 })
    const first = await budget.reserve('a', 5)
    const leaving = new AbortController()
    const large = budget.reserve('b', 8, { signal: leaving.signal })
    const small = budget.reserve('c', 5)
    leaving.abort(new Error('gone'))
    await expect(large).rejects.toThrow('gone')
    ;(await small).release()
    first.release()
    expect(budget.reserved).toBe(0)
  })

  it('never gives more than there is, and in the end serves everyone', async () => {
    const requests = fc.array(
      fc.record({
        owner: fc.constantFrom('a', 'b', 'c'),
        units: fc.integer({ min: 1, max: 12 }),
        leaves: fc.boolean(),
      }),
      { maxLength: 30 },
    )
    await fc.assert(
      fc.asyncProperty(requests, async (all) => {
        const budget = new FairBudget({ size: 10, perOwner: 7 })
        const ends = all.map(async ({ owner, units, leaves }) => {
          const leaving = new AbortController()
          const place = budget.reserve(owner, units, { signal: leaving.signal })
          if (leaves) leaving.abort()
          const held = await place.catch(() => undefined)
          expect(budget.reserved).toBeLessThanOrEqual(10)
          expect(budget.heldBy(owner)).toBeLessThanOrEqual(7)
          await turn()
          held?.release()
        })
        await Promise.all(ends)
        expect(budget.reserved).toBe(0)
        expect(budget.heldBy('a') + budget.heldBy('b') + budget.heldBy('c')).toBe(0)
      }),
    )
  })
})
