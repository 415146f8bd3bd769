import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { afterEach, expect, test } from 'vitest'
import { cachedLookup, type Lookup, networkLookup } from './lookup.ts'

const opened: Socket[] = []
afterEach(() => {
  for (const socket of opened.splice(0)) socket.close()
})

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

/** A name server that knows `found.example`, in IPv4, and never answers for names with `silent` in them. */
async function nameServer(): Promise<string> {
  const socket = createSocket('udp4', (question, from) => {
    if (question.includes('silent')) return
    const isA = question.at(question.indexOf(0, 12) + 2) === 1
    if (question.includes('half') && !isA) return
    const known = isA && question.includes('found')
    const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 215, 14])
    // Flags: an answer, recursive; name error unless the name is known.
    const isName = question.includes('found')
    const header = Buffer.from([
      ...question.subarray(0, 2),
      0x81,
      isName ? 0x80 : 0x83,
      0,
      1,
      0,
      known ? 1 : 0,
      0,
      0,
      0,
      0,
    ])
    const end = question.indexOf(0, 12) + 5
    socket.send(Buffer.concat([header, question.subarray(12, end), ...(known ? [answer] : [])]), from.port)
  }).bind(0, '127.0.0.1')
  opened.push(socket)
  await once(socket, 'listening')
  return `127.0.0.1:${socket.address().port}`
}

test('the network is asked for a name, without the threads that read files', async () => {
  const lookup = networkLookup([await nameServer()])
  const ask = (hostname: string) =>
    new Promise((resolve, reject) =>
      lookup(hostname, { all: true }, (error, found) => (error ? reject(error) : resolve(found))),
    )
  const silent = Array.from({ length: 20 }, (_, i) => ask(`silent${i}.example`).catch((error) => error.code))
  expect(await ask('found.example')).toEqual([{ address: '93.184.215.14', family: 4 }])
  await expect(ask('unknown.example')).rejects.toMatchObject({ code: 'ENOTFOUND' })
  // No address of one kind, and no answer about the other.
  const half = ask('half.example').catch((error) => error.code)
  expect(await readFile(import.meta.filename)).toBeDefined()
  expect(await Promise.race([...silent, 'pending'])).toBe('pending')
  expect(await half).toBe('ETIMEOUT')
})
