import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { UsageError } from '../errors.ts'
import { JsonlFile, scanJsonl, streamOutput } from './jsonl-output.ts'

let folder: string
let path: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-jsonl-'))
  path = join(folder, 'out.jsonl')
})
afterEach(() => rm(folder, { recursive: true }))

async function scan(): Promise<{ values: unknown[]; end: number }> {
  const values: unknown[] = []
  const end = await scanJsonl(path, (value) => values.push(value))
  return { values, end }
}

test('lines are appended, and read again', async () => {
  const file = new JsonlFile(path, 0)
  await file.append({ a: 1 })
  await file.append({ text: 'line\nbreak\u2028' })
  await file.close()
  expect((await scan()).values).toEqual([{ a: 1 }, { text: 'line\nbreak\u2028' }])
})

test('a torn last line is cut off before the next one', async () => {
  await writeFile(path, '{"a":1}\n{"a":2,"capt')
  const { values, end } = await scan()
  expect(values).toEqual([{ a: 1 }])
  const file = new JsonlFile(path, end)
  await file.append({ a: 3 })
  await file.close()
  expect(await readFile(path, 'utf8')).toBe('{"a":1}\n{"a":3}\n')
})

test.each(['{"caption":"caf\u00C3', '\uFEFF{"a":1}\r\n{"a'])(
  'a crash and an editor leave it ours: %j',
  async (text) => {
    const content = Buffer.from(text).subarray(0, text.startsWith('{') ? -1 : undefined)
    await writeFile(path, content)
    const { values, end } = await scan()
    expect(values).toEqual(end === 0 ? [] : [{ a: 1 }])
  },
)

test('a file is created, with its folder, by its first line only', async () => {
  path = join(folder, 'new', 'out.jsonl')
  const file = new JsonlFile(path, 0)
  await file.close()
  await expect(readFile(path)).rejects.toThrow('ENOENT')
  await file.append({ a: 1 })
  await file.close()
  expect(await readFile(path, 'utf8')).toBe('{"a":1}\n')
})

test.each(['my notes\nabout photos\n', 'my notes', '{"a":1}\nnot json\n{"a":2}\n', 'null\n'])(
  'somebody else’s file is refused and left alone: %j',
  async (content) => {
    await writeFile(path, content)
    await expect(scan()).rejects.toThrow(UsageError)
    expect(await readFile(path, 'utf8')).toBe(content)
  },
)

test('a file that does not exist has nothing to keep', async () => {
  expect(await scan()).toEqual({ values: [], end: 0 })
})

test('a stream that fails fails the line', async () => {
  const stream = new Writable({ write: (_chunk, _encoding, done) => done(new Error('EPIPE')) })
  await expect(streamOutput(stream).append({ a: 1 })).rejects.toThrow('EPIPE')
})

test('an earlier output of one endless line is refused, not read into memory', async () => {
  const line = Buffer.alloc(17 * 1024 * 1024, 'x')
  line.write('{"image":"')
  await writeFile(path, line)
  await expect(scan()).rejects.toThrow(UsageError)
})

test('control characters reach no terminal, and JSON stays the same', async () => {
  let text = ''
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      text += chunk
      done()
    },
  })
  const value = { image: 'a\u009b2J.jpg' }
  await streamOutput(stream).append(value)
  expect(text).not.toContain('\u009b')
  expect(JSON.parse(text)).toEqual(value)
})
