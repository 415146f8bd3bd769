import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ImageError } from '../../../../edge/contract/errors.ts'
import { IncompleteError, UsageError } from '../../errors.ts'
import { bytes, caption, image, optional, readTable, text, whole, writeTable } from './run.fixture.ts'

let folder: string
const at = (name: string) => join(folder, name)

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-tables-'))
})
afterEach(() => rm(folder, { recursive: true }))

const failOn = (bad: string) => (picture: string) =>
  picture === bad ? new ImageError('image_invalid', 'Not an image.') : undefined

const pictures = (names: string) =>
  [...names].map((name, index) => [
    BigInt(index),
    { bytes: Buffer.from(name), path: `${name}.jpg` },
    `alt ${name}`,
  ])
const table = (path: string, names: string) =>
  writeTable(path, [[whole('id')], image('image'), [text('caption')]], pictures(names))

const captionsIn = async (path: string) => (await readTable(path)).map((row) => row.caption)

describe('a Parquet file', () => {
  test('becomes one with all its columns, and the captions and ours beside them', async () => {
    const { error } = await caption([await table(at('in.parquet'), 'abc')], { out: at('out.parquet') })
    expect(error).toBeUndefined()
    const rows = await readTable(at('out.parquet'))
    expect(rows.map(({ id }) => id)).toEqual([0n, 1n, 2n])
    expect(rows[1]).toMatchObject({
      image: { bytes: new Uint8Array([98]), path: 'b.jpg' },
      input_caption: 'alt b',
      caption: 'caption of b',
      finish_reason: 'stop',
      turbine_model: 'fake',
      turbine_prune_level: 1,
      turbine_warnings: [],
      turbine_source: `${at('in.parquet')}:2`,
    })
    expect(await readdir(folder)).toEqual(['in.parquet', 'out.parquet'])
  })

  test('a run that was killed goes on: no row twice, none lost', async () => {
    const input = await table(at('in.parquet'), 'abcdefgh')
    // What a killed run leaves: some lines, the last one torn.
    await caption([input], { out: at('all.jsonl') })
    await caption([input], { out: at('out.parquet') })
    await rm(at('out.parquet'))
    const line = (row: number) =>
      `${JSON.stringify({ image: 'x', row: `${input}:${row}`, caption: `kept ${row}`, finish_reason: 'stop', turbine: { model: 'fake' } })}\n`
    await writeFile(at('out.parquet.journal'), `${line(1)}${line(2)}{"image":"x","ro`)
    const { error, seen } = await caption([input], { out: at('out.parquet') })
    expect(error).toBeUndefined()
    expect([...seen].sort().join('')).toBe('cdefgh')
    expect((await captionsIn(at('out.parquet'))).slice(0, 3)).toEqual(['kept 1', 'kept 2', 'caption of c'])
    expect(await readTable(at('out.parquet'))).toHaveLength(8)
  })

  test('the same command again has nothing to do, and does what is new', async () => {
    const inputs = [await table(at('a.parquet'), 'ab')]
    await caption(inputs, { out: at('out.parquet') })
    const before = await readFile(at('out.parquet'))
    const { stderr } = await caption(inputs, { out: at('out.parquet') })
    expect(stderr).toContain('Nothing to do')
    expect(await readFile(at('out.parquet'))).toEqual(before)
    inputs.push(await table(at('b.parquet'), 'cd'))
    const { seen } = await caption(inputs, { out: at('out.parquet') })
    expect(seen.sort()).toEqual(['c', 'd'])
    expect(await captionsIn(at('out.parquet'))).toEqual([...'abcd'].map((name) => `caption of ${name}`))
  })

  test('failures are in the error file with their row, and are retried', async () => {
    const input = await table(at('in.parquet'), 'abc')
    const { error } = await caption([input], { out: at('out.parquet') }, { fail: failOn('b') })
    expect(error).toBeInstanceOf(IncompleteError)
    expect(JSON.parse(await readFile(at('out.errors.jsonl'), 'utf8'))).toMatchObject({
      row: `${input}:2`,
      error: { code: 'image_invalid' },
    })
    expect(await captionsIn(at('out.parquet'))).toEqual(['caption of a', 'caption of c'])
    const again = await caption([input], { out: at('out.parquet'), retryErrors: true })
    expect(again.error).toBeUndefined()
    expect((await readTable(at('out.parquet'))).map(({ id }) => id)).toEqual([0n, 2n, 1n])
  })

  test.each([
    ['bytes', () => [[bytes('picture')], [[Buffer.from('a')], [Buffer.from('b')]]] as const],
    ['names of files beside it', () => [[text('file_name')], [['a.jpg'], ['b.jpg']]] as const],
    ['names in the struct', () => [image('image'), [[{ path: 'a.jpg' }], [{ path: 'b.jpg' }]]] as const],
  ])('has its pictures as %s', async (_, make) => {
    for (const name of 'ab') await writeFile(at(`${name}.jpg`), name)
    const [column, rows] = make()
    const input = await writeTable(
      at('in.parquet'),
      [[...column]],
      rows.map((row) => [...row]),
    )
    await caption([input], { out: at('out.parquet') })
    expect(await captionsIn(at('out.parquet'))).toEqual(['caption of a', 'caption of b'])
  })

  test('rows without a picture fail alone', async () => {
    const input = await writeTable(at('in.parquet'), [[bytes('image')]], [[null], [Buffer.from('a')]])
    await caption([input], { out: at('out.parquet') })
    expect(await captionsIn(at('out.parquet'))).toEqual(['caption of a'])
    expect(await readFile(at('out.errors.jsonl'), 'utf8')).toContain('image_missing')
  })

  test('columns are named, and left out', async () => {
    const columns = [[bytes('jpg')], [text('key')], [text('ask')], [whole('n')]]
    const input = await writeTable(at('in.parquet'), columns, [[Buffer.from('a'), 'k', 'a photo of', 1n]])
    await caption([input], {
      out: at('out.jsonl'),
      imageColumn: 'jpg',
      idColumn: 'key',
      promptColumn: 'ask',
      captionColumn: 'text',
      dropColumns: ['ask'],
    })
    const line = JSON.parse(await readFile(at('out.jsonl'), 'utf8'))
    expect(line).toMatchObject({ custom_id: 'k', prompt: 'a photo of', text: 'caption of a', key: 'k', n: 1 })
    expect(line).not.toHaveProperty('ask')
    const { error } = await caption([input], { out: at('other.parquet'), imageColumn: 'png' })
    expect(String(error)).toContain('has no column png for --image-column. It has jpg, key, ask, n.')
  })

  test('files of different types are refused before anything is captioned', async () => {
    const one = await writeTable(at('a.parquet'), [[bytes('image')], [whole('n')]], [[Buffer.from('a'), 1n]])
    const two = await writeTable(at('b.parquet'), [[bytes('image')], [text('n')]], [[Buffer.from('b'), 'x']])
    const { error, seen } = await caption([one, two], { out: at('out.parquet') })
    expect(error).toBeInstanceOf(UsageError)
    expect(String(error)).toContain('Column n of')
    expect(seen).toEqual([])
    expect((await caption([one, two], { out: at('out.parquet'), dropColumns: ['n'] })).error).toBeUndefined()
  })

  test('what is foreign or read is never written', async () => {
    const input = await table(at('in.parquet'), 'a')
    const before = await readFile(input)
    for (const flags of [{}, { overwrite: true }]) {
      expect((await caption([input], { out: input, ...flags })).error).toBeInstanceOf(UsageError)
      const other = await table(at('other.parquet'), 'b')
      expect(String((await caption([input], { out: other, ...flags })).error)).toContain(
        'not an output of this command',
      )
    }
    expect(await readFile(input)).toEqual(before)
    expect((await caption([input], { out: '-', format: 'parquet' })).error).toBeInstanceOf(UsageError)
  })

  test('--overwrite replaces an output when the new one is complete', async () => {
    const input = await table(at('in.parquet'), 'ab')
    await caption([input], { out: at('out.parquet') })
    const failed = await caption(
      [input],
      { out: at('out.parquet'), overwrite: true },
      { fail: (name) => failOn(name)(name) },
    )
    expect(failed.error).toBeInstanceOf(IncompleteError)
    expect(await captionsIn(at('out.parquet'))).toHaveLength(2)
    await caption([input], { out: at('out.parquet'), overwrite: true })
    expect(await captionsIn(at('out.parquet'))).toHaveLength(2)
  })
})

describe('tables of text', () => {
  test('keep their columns, and what has the name of ours under another one', async () => {
    for (const name of 'ab') await writeFile(at(`${name}.jpg`), name)
    await writeFile(at('in.csv'), 'key,url,caption\n007,a.jpg,"old, a"\n8,b.jpg,\n')
    const { error } = await caption([at('in.csv')], { out: at('out.csv') })
    expect(error).toBeUndefined()
    const [header, first] = (await readFile(at('out.csv'), 'utf8')).split('\n')
    expect(header).toMatch(/^key,url,input_caption,caption,finish_reason,turbine_model,/)
    expect(first).toMatch(/^007,a\.jpg,"old, a",caption of a,stop,fake,1,0\.5,/)
    const again = await caption([at('in.csv')], { out: at('out.csv') })
    expect(again.stderr).toContain('Nothing to do: 2 images')
    await appendFile(at('in.csv'), '9,a.jpg,\n')
    // The same picture in another row is another row.
    expect((await caption([at('in.csv')], { out: at('out.csv') })).seen).toEqual(['a'])
    expect((await readFile(at('out.csv'), 'utf8')).trim().split('\n')).toHaveLength(4)
  })

  test('lines of JSON become columns of the types that all of them have', async () => {
    for (const name of 'ab') await writeFile(at(`${name}.jpg`), name)
    const lines = [
      { image: 'a.jpg', count: 1, x: 1, mixed: 1, ok: true, tags: ['t'], late: null },
      { image: 'b.jpg', count: 2, x: 0.5, mixed: 'm', ok: null, tags: [], late: 'l' },
    ]
    await writeFile(at('in.jsonl'), lines.map((line) => JSON.stringify(line)).join('\n'))
    await caption([at('in.jsonl')], { out: at('out.parquet') })
    expect(await readTable(at('out.parquet'))).toMatchObject([
      { image: 'a.jpg', count: 1n, x: 1, mixed: '1', ok: true, tags: '["t"]', late: null },
      { image: 'b.jpg', count: 2n, x: 0.5, mixed: 'm', tags: '[]', late: 'l', caption: 'caption of b' },
    ])
  })

  test('a folder becomes a table of pictures and captions', async () => {
    await mkdir(at('photos'))
    for (const name of 'ab') await writeFile(at(`photos/${name}.jpg`), name)
    for (const out of ['out.csv', 'out.parquet', 'out.tsv']) {
      expect((await caption([at('photos')], { out: at(out) })).error).toBeUndefined()
      expect((await caption([at('photos')], { out: at(out) })).stderr).toContain('Nothing to do')
    }
    expect((await readTable(at('out.parquet'))).map((row) => [row.image, row.caption])).toEqual([
      [at('photos/a.jpg'), 'caption of a'],
      [at('photos/b.jpg'), 'caption of b'],
    ])
  })

  test('Parquet becomes lines and CSV without its bytes', async () => {
    const columns = [
      image('image'),
      [optional('when', { type: 'INT64', converted_type: 'TIMESTAMP_MILLIS' })],
    ]
    const input = await writeTable(at('in.parquet'), columns, [
      [{ bytes: Buffer.from('a'), path: 'a.jpg' }, 0n],
    ])
    await caption([input], { out: at('out.jsonl') })
    expect(JSON.parse(await readFile(at('out.jsonl'), 'utf8'))).toMatchObject({
      image: 'a.jpg',
      row: `${input}:1`,
      when: '1970-01-01T00:00:00.000Z',
      caption: 'caption of a',
    })
    await caption([input], { out: at('out.csv') })
    expect(await readFile(at('out.csv'), 'utf8')).toContain(
      '"{""path"":""a.jpg""}",1970-01-01T00:00:00.000Z,caption of a',
    )
  })
})

describe('--sidecar', () => {
  beforeEach(async () => {
    await mkdir(at('photos'))
    for (const name of 'ab') await writeFile(at(`photos/${name}.jpg`), name)
  })
  const sidecar = (flags = {}) =>
    caption([at('photos')], { sidecar: '.txt', errors: at('errors.jsonl'), ...flags })

  test('writes a text beside each picture, and never over one', async () => {
    await writeFile(at('photos/a.txt'), 'mine')
    const { error, seen } = await sidecar()
    expect([error, seen]).toEqual([undefined, ['b']])
    expect(await readFile(at('photos/a.txt'), 'utf8')).toBe('mine')
    expect(await readFile(at('photos/b.txt'), 'utf8')).toBe('caption of b\n')
    expect((await sidecar()).stderr).toContain('Nothing to do')
    await sidecar({ overwrite: true })
    expect(await readFile(at('photos/a.txt'), 'utf8')).toBe('caption of a\n')
    expect(await readdir(at('photos'))).toEqual(['a.jpg', 'a.txt', 'b.jpg', 'b.txt'])
  })

  test('two pictures of one name, and what is no file, fail', async () => {
    await writeFile(at('photos/a.png'), 'c')
    expect((await sidecar()).error).toBeInstanceOf(IncompleteError)
    expect(await readFile(at('errors.jsonl'), 'utf8')).toContain('sidecar_exists')
    const input = await table(at('in.parquet'), 'x')
    await caption([input], { sidecar: '.txt', errors: at('e.jsonl') })
    expect(await readFile(at('e.jsonl'), 'utf8')).toContain('no_sidecar')
    expect((await sidecar({ sidecar: 'txt' })).error).toBeInstanceOf(UsageError)
  })
})

test('rows with the same address are captioned once, and with --dedupe exact those with the same bytes', async () => {
  for (const name of 'ab') await writeFile(at(`${name}.jpg`), 'same')
  await writeFile(at('in.csv'), 'key,url\n1,a.jpg\n2,b.jpg\n3,a.jpg\n')
  const rows = await caption([at('in.csv')], { out: at('out.csv') })
  expect(rows.seen).toEqual(['same', 'same'])
  expect((await readFile(at('out.csv'), 'utf8')).trim().split('\n')).toHaveLength(4)
  const exact = await caption([at('in.csv'), at('b.jpg')], { out: at('exact.csv'), dedupe: 'exact' })
  expect(exact.seen).toEqual(['same'])
  expect((await readFile(at('exact.csv'), 'utf8')).trim().split('\n')).toHaveLength(5)
})
