import { link, lstat, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { UsageError } from '../errors.ts'
import { damagedFile, JsonlFile, streamOutput } from './jsonl-output.ts'
import { ForeignLineError, nothingScanned, type ScannedJsonl, scanJsonl } from './jsonl-scan.ts'

let folder: string
let path: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-jsonl-'))
  path = join(folder, 'out.jsonl')
})
afterEach(() => rm(folder, { recursive: true }))

const starts = ['{"image":']

/** Lines of this kind have an image. */
async function scan(): Promise<{ values: unknown[]; found: ScannedJsonl }> {
  const values: unknown[] = []
  const visit = (value: object) => {
    if (!('image' in value)) throw new ForeignLineError('has no "image"')
    values.push(value)
  }
  return { found: await scanJsonl(path, { starts, visit }), values }
}

const line = (image: string) => `{"image":"${image}"}\n`
const before = line('a') + line('é')

/** Reads what is there, and writes one more line. */
async function resume(): Promise<string> {
  const { found } = await scan()
  const file = new JsonlFile(path, found)
  await file.append({ image: 'next' })
  await file.close()
  return readFile(path, 'utf8')
}

test('lines are appended, and read again', async () => {
  const file = new JsonlFile(path)
  await file.append({ image: 1 })
  await file.append({ image: 'line\nbreak\u2028' })
  await file.close()
  expect((await scan()).values).toEqual([{ image: 1 }, { image: 'line\nbreak\u2028' }])
})

test('an output has no other end of a line than the line feed, and the same values', async () => {
  const value = { image: 'a\u0085b\u2028c\u2029d\r\v\f\u001c', caption: '\u2028' }
  const file = new JsonlFile(path)
  await file.append(value)
  await file.close()
  const text = await readFile(path, 'utf8')
  // What Python's str.splitlines splits at.
  const ends = [...text].filter((character) =>
    '\n\r\v\f\u001c\u001d\u001e\u0085\u2028\u2029'.includes(character),
  )
  expect(ends).toEqual(['\n'])
  expect(JSON.parse(text)).toEqual(value)
})

const half = '{"image":"x", "capt'
const torn: [name: string, end: string | Uint8Array, kept?: string][] = [
  ['nothing', ''],
  ['half a line', half],
  ['a brace', '{'],
  ['half a character', Buffer.from('{"image":"x\u00e9').subarray(0, -1)],
  ['half a character of four bytes', Buffer.from('{"image":"😀').subarray(0, -1)],
  ['zeros', '\0'.repeat(5000)],
  ['half a line and zeros', half + '\0'.repeat(5000)],
]
const kept: [name: string, end: string][] = [
  ['garbage', 'x\x01garbage'],
  ['garbage in lines', 'some\nnotes\n'],
  ['zeros and a line end', '\0\0\n'],
  ['half a line and a line end', `${half}\n`],
  ['half a line and more', `${half}\nmore`],
  ['zeros, and then something', `${'\0'.repeat(5000)}x`],
  ['a line of another kind', '{"a":1}'],
]

describe('an end that was torn is cut off', () => {
  test.each(torn)('%s', async (_, end) => {
    await writeFile(path, Buffer.concat([Buffer.from(before), Buffer.from(end as string)]))
    expect(await resume()).toBe(before + line('next'))
    await expect(readFile(damagedFile(path))).rejects.toThrow('ENOENT')
  })

  test.each(torn)('%s, where there is nothing else', async (_, end) => {
    await writeFile(path, end)
    expect(await resume()).toBe(line('next'))
  })

  test.each(kept)('and kept, where it is more than that: %s', async (_, end) => {
    await writeFile(path, before + end)
    expect(await resume()).toBe(before + line('next'))
    expect(await readFile(damagedFile(path), 'utf8')).toBe(end)
  })

  test.each([
    ['no line end', before.trimEnd(), before],
    [
      'half a line end of Windows',
      before.replaceAll('\n', '\r\n').slice(0, -1),
      before.replaceAll('\n', '\r\n'),
    ],
    ['empty lines', `${before}\n\r\n`, `${before}\n\r\n`],
    ['a byte order mark', `\uFEFF${before}`, `\uFEFF${before}`],
  ])('and what is whole stays: %s', async (_, content, whole) => {
    await writeFile(path, content)
    expect((await scan()).values).toEqual([{ image: 'a' }, { image: 'é' }])
    expect(await resume()).toBe(whole + line('next'))
  })
})

describe('damage in the middle', () => {
  test.each([
    ['zeros', '\0'.repeat(100)],
    ['half a line', half],
    ['two lines', `${half}\nnotes`],
    ['a line of another kind', '{"a":1}'],
  ])('is kept apart, and told by its line: %s', async (_, damage) => {
    await writeFile(path, `${before}${damage}\n${line('b')}${damage}\n${line('c')}${half}`)
    const { found, values } = await scan()
    const lines = damage.split('\n').length
    expect(found.damaged).toMatchObject([
      { line: 3, lines },
      { line: 4 + lines, lines },
    ])
    expect(values).toHaveLength(4)
    expect(await resume()).toBe(before + line('b') + line('c') + line('next'))
    expect(await readFile(damagedFile(path), 'utf8')).toBe(`${damage}\n`.repeat(2))
  })

  test('that is no text', async () => {
    const latin1 = Buffer.from(line('é'), 'latin1')
    await writeFile(path, Buffer.concat([Buffer.from(line('a')), latin1, Buffer.from(line('b'))]))
    expect(await resume()).toBe(line('a') + line('b') + line('next'))
    expect(await readFile(damagedFile(path))).toEqual(latin1)
  })

  test('leaves a link and the rights of the file', async () => {
    const target = join(folder, 'target.jsonl')
    await writeFile(target, `${before}\0\n${line('b')}`, { mode: 0o600 })
    await symlink(target, path)
    await resume()
    expect((await lstat(path)).isSymbolicLink()).toBe(true)
    expect((await stat(target)).mode & 0o777).toBe(0o600)
    expect((await readdir(folder)).sort()).toEqual(['out.jsonl', 'target.jsonl', 'target.jsonl.damaged'])
  })
})

test('a file that is replaced stays until there is a line', async () => {
  await writeFile(path, before)
  await link(path, join(folder, 'other.jsonl'))
  const file = new JsonlFile(path, 'replace')
  expect(await readFile(path, 'utf8')).toBe(before)
  await file.append({ image: 'b' })
  await file.close()
  expect(await readFile(path, 'utf8')).toBe(line('b'))
  // Another name of it is another file now.
  expect(await readFile(join(folder, 'other.jsonl'), 'utf8')).toBe(before)
  expect(await readdir(folder)).toHaveLength(2)
})

test('a file is created, with its folder, by its first line only', async () => {
  path = join(folder, 'new', 'out.jsonl')
  const file = new JsonlFile(path)
  await file.close()
  await expect(readFile(path)).rejects.toThrow('ENOENT')
  await file.append({ a: 1 })
  await file.close()
  expect(await readFile(path, 'utf8')).toBe('{"a":1}\n')
})

test.each([
  'my notes\nabout photos\n',
  'my notes',
  '{"a":1}\nnot json\n{"a":2}\n',
  '{"a":1}',
  '{"image-size": 3',
  'null\n',
  '{\n  "a": 1\n}\n',
  `${'\0'.repeat(2000)}an image of a disk`,
  `notes\nand more\n${line('a')}`,
])('somebody else’s file is refused and left alone: %j', async (content) => {
  await writeFile(path, content)
  const refused = scan()
  await expect(refused).rejects.toThrow(UsageError)
  await expect(refused).rejects.not.toThrow('--overwrite')
  expect(await readFile(path, 'utf8')).toBe(content)
})

test('a file that does not exist has nothing to keep', async () => {
  expect(await scan()).toEqual({ values: [], found: nothingScanned })
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
