import fc from 'fast-check'
import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { readPage } from './pages.ts'

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
            const page = await readPage(store, { prefix: 'things/', after, limit, order, read })
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
    read: async (each) => {
      read.push(each)
      return { id: each }
    },
  })
  expect(page.data.map((thing) => thing.id)).toEqual(['000', '001'])
  expect(read).toEqual(['000', '001', '002'])
})
