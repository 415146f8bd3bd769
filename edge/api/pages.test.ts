import fc from 'fast-check'
import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { DamagedObjectError, type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import { newestFirst } from '../contract/ids.ts'
import { readPage } from './pages.ts'

const silent = { warn: () => {} }
const id = fc.stringMatching(/^[a-z0-9-]{1,6}$/)

test.each(['asc', 'desc'] as const)(
  'page after page has everything that is wanted, once and in order (%s)',
  async (order) => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(id, { maxLength: 130 }),
        fc.integer({ min: 1, max: 60 }),
        fc.func(fc.boolean()),
        async (ids, limit, wanted) => {
          const { store } = memoryStore()
          await Promise.all(ids.map((each) => store.put(`things/${each}.json`, '')))
          await store.put('thingsbeside/x.json', '')
          const read = async (each: string) => (wanted(each) ? { id: each } : undefined)
          const found: string[] = []
          for (let after: string | undefined, more = true; more; after = found.at(-1)) {
            const page = await readPage(store, { prefix: 'things/', after, limit, order, read, log: silent })
            expect(page.data.length).toBeLessThanOrEqual(limit)
            expect([page.first_id, page.last_id]).toEqual([
              page.data[0]?.id ?? null,
              page.data.at(-1)?.id ?? null,
            ])
            if (page.has_more) expect(page.data).toHaveLength(limit)
            if (after !== undefined) expect(page.data).not.toEqual([])
            found.push(...page.data.map((thing) => thing.id))
            more = page.has_more
          }
          const sorted = ids.filter((each) => wanted(each)).sort(byKey)
          expect(found).toEqual(order === 'desc' ? sorted : sorted.reverse())
        },
      ),
    )
  },
)

/** As a store sorts them: by the whole key. */
const byKey = (a: string, b: string) => (`${a}.json` < `${b}.json` ? -1 : 1)

test('a page reads hardly more than it shows', async () => {
  const { store } = memoryStore()
  const ids = Array.from({ length: 300 }, (_, index) => String(index).padStart(3, '0'))
  await Promise.all(ids.map((each) => store.put(`things/${each}.json`, '')))
  const read: string[] = []
  const page = await readPage(store, {
    prefix: 'things/',
    limit: 2,
    log: silent,
    read: async (each) => {
      read.push(each)
      return { id: each }
    },
  })
  expect(page.data.map((thing) => thing.id)).toEqual(['000', '001'])
  expect(read).toEqual(['000', '001', '002'])
})

const day = 86_400_000

test.each([
  ['over a year', (n: number) => 1_790_000_000_000 + Math.floor((n * 365 * day) / 800)],
  ['on one day after a quiet year', (n: number) => 1_790_000_000_000 + (n === 0 ? 0 : 365 * day + n * 10)],
])('page after page of the oldest costs some lists each, not all of them, made %s', async (_, timeOf) => {
  const { store } = memoryStore()
  const ids = Array.from({ length: 800 }, (_, n) => `file-${newestFirst(timeOf(n), `x${n}`)}`)
  await Promise.all(ids.map((each) => store.put(`things/${each}.json`, '')))
  let lists = 0
  const counted: ObjectStore = {
    ...store,
    list: (prefix, options) => {
      lists++
      return store.list(prefix, { ...options, limit: 20 })
    },
  }
  const read = async (each: string) => ({ id: each })
  const found: string[] = []
  const costs: number[] = []
  for (let after: string | undefined, more = true; more; after = found.at(-1)) {
    lists = 0
    const page = await readPage(counted, {
      prefix: 'things/',
      after,
      limit: 10,
      order: 'asc',
      log: silent,
      read,
    })
    costs.push(lists)
    found.push(...page.data.map((thing) => thing.id))
    more = page.has_more
  }
  expect(found).toEqual(ids.toSorted().reverse())
  // All of them are 40 lists.
  expect(costs.reduce((sum, each) => sum + each) / costs.length).toBeLessThan(20)
})

test.each([
  ['that is no JSON', () => Promise.reject(new DamagedObjectError('damaged'))],
  ['that lacks what is read', () => Promise.reject(new TypeError('undefined has no "file"'))],
  ['with another id', async () => ({ id: 'other' })],
])('a record %s is left out and logged', async (_, damaged) => {
  const { store } = memoryStore()
  for (const each of ['1', '2', '3']) await store.put(`things/${each}.json`, '')
  const warned: unknown[] = []
  const page = await readPage(store, {
    prefix: 'things/',
    limit: 10,
    log: { warn: (fields) => void warned.push(fields) },
    read: async (each) => (each === '2' ? damaged() : { id: each }),
  })
  expect(page.data).toEqual([{ id: '1' }, { id: '3' }])
  expect(warned).toEqual([expect.objectContaining({ id: '2' })])
})

test('an outage of the store fails the list', async () => {
  const { store } = memoryStore()
  await store.put('things/1.json', '')
  const read = () => Promise.reject(new StoreUnavailableError('away'))
  await expect(readPage(store, { prefix: 'things/', limit: 1, log: silent, read })).rejects.toThrow('away')
})
