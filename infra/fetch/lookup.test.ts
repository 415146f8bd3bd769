import { expect, test } from 'vitest'
import { cachedLookup, type Lookup } from './lookup.ts'

/** A lookup that counts the questions to the one below. */
function setUp(fail = false) {
  const clock = { now: 0 }
  const asked: string[] = []
  const below: Lookup = (hostname, _, callback) => {
    asked.push(hostname)
    setImmediate(() =>
      fail
        ? callback(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }), [])
        : callback(null, [{ address: '93.184.215.14', family: 4 }]),
    )
  }
  const lookup = cachedLookup(below, { freshMs: 10_000, names: 2, now: () => clock.now })
  const ask = (hostname: string) =>
    new Promise((resolve, reject) =>
      lookup(hostname, { all: true }, (error, found) => (error ? reject(error) : resolve(found))),
    )
  return { clock, asked, ask }
}

test('a name is asked for once by all who need it at about the same time', async () => {
  const { clock, asked, ask } = setUp()
  expect(await Promise.all([ask('a.com'), ask('a.com')])).toEqual(
    Array(2).fill([{ address: '93.184.215.14', family: 4 }]),
  )
  clock.now = 9_999
  await ask('a.com')
  expect(asked).toEqual(['a.com'])
  clock.now = 10_000
  await ask('a.com')
  expect(asked).toEqual(['a.com', 'a.com'])
})

test('few names are remembered, and no failure', async () => {
  const { asked, ask } = setUp()
  for (const name of ['a.com', 'b.com', 'c.com', 'a.com']) await ask(name)
  expect(asked).toEqual(['a.com', 'b.com', 'c.com', 'a.com'])
  const failing = setUp(true)
  for (let i = 0; i < 2; i++) await expect(failing.ask('a.com')).rejects.toThrow('no such name')
  expect(failing.asked).toHaveLength(2)
})
