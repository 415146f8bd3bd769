import { execFileSync } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readSamples } from '../../../../infra/data-files/tar-samples.ts'
import { IncompleteError, UsageError } from '../../errors.ts'
import { caption } from './run.fixture.ts'

let folder: string
const at = (name: string) => join(folder, name)

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-shards-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function writeShard(path: string, members: Record<string, string>): Promise<string> {
  const tar = pack()
  for (const [name, content] of Object.entries(members)) tar.entry({ name }, content)
  tar.finalize()
  await pipeline(tar, createWriteStream(path))
  return path
}

const shard = (path: string, names: string) =>
  writeShard(
    path,
    Object.fromEntries(
      [...names].flatMap((name) => [
        [`${name}.jpg`, name],
        [`${name}.json`, `{"id": "${name}", "caption": "old"}`],
        [`${name}.txt`, `words of ${name}`],
      ]),
    ),
  )

async function membersOf(path: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  async function* bytes() {
    yield await readFile(path)
  }
  for await (const { members } of readSamples(bytes(), path))
    for (const { name, bytes } of members) found[name] = Buffer.from(bytes).toString()
  return found
}

test('a shard becomes one with captions, and keeps all members', async () => {
  const { error } = await caption([await shard(at('in.tar'), 'ab')], { out: at('out.tar') })
  expect(error).toBeUndefined()
  const members = await membersOf(at('out.tar'))
  expect(members).toMatchObject({
    'a.jpg': 'a',
    'a.json': '{"id": "a", "caption": "old"}',
    'a.input_txt': 'words of a',
    'a.txt': 'caption of a',
    'b.txt': 'caption of b',
  })
  expect(JSON.parse(members['b.turbine.json']!)).toMatchObject({
    caption: 'caption of b',
    turbine: { model: 'fake' },
  })
  expect(await readdir(folder)).toEqual(['in.tar', 'out.tar'])
  expect((await caption([at('in.tar')], { out: at('out.tar') })).stderr).toContain('Nothing to do: 2 images')
  // Another program reads it.
  expect(execFileSync('tar', ['tf', at('out.tar')], { encoding: 'utf8' }).split('\n')).toHaveLength(11)
})

test('a pattern of shards becomes as many, and goes on after it was killed', async () => {
  await shard(at('00000.tar'), 'ab')
  await shard(at('00001.tar'), 'cd')
  const run = () =>
    caption([at('{00000..00001}.tar')], { out: at('out-{000..999}.tar'), captionColumn: 'cap' })
  const line = {
    image: 'x',
    row: `${at('00000.tar')}:a`,
    caption: 'kept',
    finish_reason: 'stop',
    turbine: { model: 'fake' },
  }
  await writeFile(at('out-{000..999}.tar.journal'), `${JSON.stringify(line)}\n`)
  expect((await run()).seen.sort()).toEqual(['b', 'c', 'd'])
  expect(await membersOf(at('out-000.tar'))).toMatchObject({
    'a.cap': 'kept',
    'a.txt': 'words of a',
    'b.cap': 'caption of b',
  })
  expect(await membersOf(at('out-001.tar'))).toMatchObject({ 'd.cap': 'caption of d' })
  expect((await run()).stderr).toContain('Nothing to do: 4 images')
})

test.each(['out-{9..1}.tar', 'out-{0..99999999999}.tar'])('%s is refused', async (name) => {
  const { error } = await caption([await shard(at('in.tar'), 'a')], { out: at(name) })
  expect(error).toBeInstanceOf(UsageError)
})

test('shards of the input are never written', async () => {
  const input = await shard(at('00001.tar'), 'a')
  const before = await readFile(input)
  for (const flags of [{}, { overwrite: true }]) {
    const { error } = await caption([input], { out: at('{00000..00009}.tar'), ...flags })
    expect(error).toBeInstanceOf(UsageError)
  }
  expect(await readFile(input)).toEqual(before)
})

test('pictures in a folder become a shard', async () => {
  await mkdir(at('photos'))
  await writeFile(at('photos/a.jpg'), 'a')
  await caption([at('photos')], { out: at('out.tar') })
  const members = await membersOf(at('out.tar'))
  const key = at('photos/a').slice(1)
  expect(members).toMatchObject({ [`${key}.jpg`]: 'a', [`${key}.txt`]: 'caption of a' })
})

test('a shard becomes lines and tables with what its members say', async () => {
  await writeFile(at('in.tar.gz'), gzipSync(await readFile(await shard(at('in.tar'), 'a'))))
  await caption([at('in.tar.gz')], { out: at('out.jsonl'), idColumn: 'id' })
  expect(JSON.parse(await readFile(at('out.jsonl'), 'utf8'))).toMatchObject({
    custom_id: 'a',
    row: `${at('in.tar.gz')}:a`,
    __key__: 'a',
    txt: 'words of a',
    input_caption: 'old',
    caption: 'caption of a',
  })
  await caption([at('in.tar')], { out: at('out.csv') })
  expect(await readFile(at('out.csv'), 'utf8')).toMatch(/^__key__,id,input_caption,txt,caption,/)
})

test('what is at addresses is no shard', async () => {
  await writeFile(at('list.txt'), 'https://example.com/a.jpg\n')
  expect((await caption([at('list.txt')], { out: at('out.tar') })).error).toBeInstanceOf(UsageError)
})

test('names that lead out of a folder are names', async () => {
  const path = await writeShard(at('in.tar'), {
    '../../a.jpg': 'a',
    '/etc/b.jpg': 'b',
    '.hidden.jpg': 'c',
    '../.x/d.jpg': 'd',
  })
  const { error, seen } = await caption([path], { out: at('out.jsonl') })
  expect([error, seen]).toEqual([undefined, ['a', 'b']])
  expect(await readdir(folder)).toEqual(['in.tar', 'out.jsonl'])
})

/** A header with a size that is not there. */
function headerOf(size: string): Buffer {
  const header = Buffer.alloc(512)
  header.write('z.jpg')
  header.write('0000644\0', 100)
  header.write(size, 124)
  header.write('        ', 148)
  header.write('0', 156)
  header.write('ustar\x0000', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return header
}

test.each<[string, (path: string) => Promise<void>]>([
  ['cut off', (path) => truncate(path, 512 * 3 + 100)],
  ['cut in its first header', (path) => truncate(path, 100)],
  ['empty', (path) => truncate(path, 0)],
  ['no tar', (path) => writeFile(path, 'x'.repeat(5000))],
  ['of a member of 8 GB', async (path) => writeFile(path, headerOf('77777777777\0'))],
  ['of half a gzip', async (path) => writeFile(path, gzipSync(await readFile(path)).subarray(0, 60))],
])('a shard that is %s is one failure, and the next is read', async (_, damage) => {
  const bad = await shard(at('bad.tar'), 'ab')
  await damage(bad)
  const good = await shard(at('good.tar'), 'c')
  const { error, seen } = await caption([bad, good], { out: at('out.jsonl') })
  expect(error).toBeInstanceOf(IncompleteError)
  expect(seen).toContain('c')
  const failures = (await readFile(at('out.errors.jsonl'), 'utf8')).trim().split('\n')
  expect(failures).toHaveLength(1)
  expect(JSON.parse(failures[0]!)).toMatchObject({ image: bad, error: { code: 'file_damaged' } })
})
