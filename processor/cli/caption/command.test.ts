import { execFileSync } from 'node:child_process'
import { appendFile, link, mkdir, mkdtemp, open, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ImageError } from '../../../edge/contract/errors.ts'
import { readImageFile } from '../../../infra/fetch/image-file.ts'
import { createImageSource } from '../../../infra/fetch/image-source.ts'
import { FakeCaptioner, type FakeCaptionerOptions } from '../captioner.fixture.ts'
import { IncompleteError, InterruptedError, UsageError } from '../errors.ts'
import { FakeSignals } from '../signals.fixture.ts'
import { type CaptionFlags, runCaption } from './command.ts'
import { createImageReader } from './read-image.ts'

const imageAt = createImageSource({
  fetch: async () => new Response(),
  maxBytes: 1e6,
  readFile: readImageFile,
})

let folder: string
let photos: string
let out: string
let errorsFile: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-caption-'))
  photos = join(folder, 'photos')
  out = join(folder, 'captions.jsonl')
  errorsFile = join(folder, 'captions.errors.jsonl')
  await mkdir(photos)
})
afterEach(() => rm(folder, { recursive: true }))

async function addPhotos(...names: string[]): Promise<void> {
  for (const name of names) await writeFile(join(photos, `${name}.jpg`), name)
}

function collect(): Writable & { text: string } {
  const stream = Object.assign(
    new Writable({
      write(chunk, _encoding, done) {
        stream.text += chunk
        done()
      },
    }),
    { text: '' },
  )
  return stream
}

async function* noInput(): AsyncGenerator<Uint8Array> {}

/** Runs the command over the photos; what happened, whether it threw or not. */
async function caption(
  flags: Partial<CaptionFlags> = {},
  options: FakeCaptionerOptions & { inputs?: string[]; stdoutFd?: number } = {},
) {
  const captioner = new FakeCaptioner(options)
  const stdout = Object.assign(collect(), { fd: options.stdoutFd })
  const stderr = collect()
  const signals = new FakeSignals()
  const error: unknown = await runCaption(
    options.inputs ?? [photos],
    { out, ...flags },
    {
      openCaptioner: async () => captioner,
      readImage: createImageReader(imageAt),
      stdin: noInput(),
      stdout,
      stderr,
      signals,
    },
  ).then(
    () => undefined,
    (thrown) => thrown,
  )
  return { error, captioner, stdout: stdout.text, stderr: stderr.text, signals }
}

async function linesOf(
  path: string,
): Promise<{ image: string; caption?: string; error?: { code: string } }[]> {
  const text = await readFile(path, 'utf8')
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

const namesIn = async (path: string) =>
  (await linesOf(path)).map(({ image }) => image.slice(photos.length + 1, -4))

const failOn = (bad: string) => (image: string) =>
  image === bad ? new ImageError('image_invalid', 'Not an image.') : undefined

test('tells what the folder asks for and is not done', async () => {
  const { stderr } = await caption({}, { unhonoured: ['num_beams 4'] })
  expect(stderr).toMatch(/generation_config\.json asks for num_beams 4, which is not done for this model/)
})

test('a folder becomes a JSONL file in the order of the names, and no error file', async () => {
  await addPhotos('b', 'a', 'c')
  const { error, captioner, stdout, stderr } = await caption()
  expect(error).toBeUndefined()
  expect(await namesIn(out)).toEqual(['a', 'b', 'c'])
  await expect(readFile(errorsFile)).rejects.toThrow('ENOENT')
  expect(stdout).toBe('')
  expect(stderr).toContain('3 images captioned')
  expect(captioner.closed).toBe(true)
})

test('failures have a file of their own and fail the command at the end', async () => {
  await addPhotos('a', 'b', 'c')
  const { error } = await caption({}, { fail: failOn('b') })
  expect(error).toBeInstanceOf(IncompleteError)
  expect(String(error)).toContain(`1 image failed, see ${errorsFile}`)
  expect(await namesIn(out)).toEqual(['a', 'c'])
  expect(await linesOf(errorsFile)).toMatchObject([
    { error: { code: 'image_invalid', message: 'Not an image.' } },
  ])
})

test('a second run does what is new, after a torn line too, and leaves failures alone', async () => {
  await addPhotos('a', 'b', 'c')
  await caption({}, { fail: failOn('b') })
  const whole = await readFile(out, 'utf8')
  await writeFile(out, whole.slice(0, -20))
  await addPhotos('d')
  const seen: string[] = []
  const { error, stderr } = await caption(
    {},
    { onTask: ({ image }) => seen.push(Buffer.from(image).toString()) },
  )
  expect([...seen].sort()).toEqual(['c', 'd'])
  expect(await namesIn(out)).toEqual(['a', 'c', 'd'])
  expect(stderr).toContain('2 already done')
  // The failure of the first run is still missing in the output.
  expect(error).toBeInstanceOf(IncompleteError)
})

test('--retry-errors takes failures up again', async () => {
  await addPhotos('a', 'b')
  await caption({}, { fail: failOn('a') })
  const { error } = await caption({ retryErrors: true })
  expect(error).toBeUndefined()
  expect(await namesIn(out)).toEqual(['b', 'a'])
  await expect(readFile(errorsFile)).rejects.toThrow('ENOENT')
})

const captionsOf = (names: string, model = 'earlier') =>
  [...names].map((name) => `${JSON.stringify({ image: name, caption: '', turbine: { model } })}\n`).join('')

test('--retry-errors keeps the failures of what was not tried again', async () => {
  await addPhotos('a', 'b')
  await mkdir(join(folder, 'more'))
  await writeFile(join(folder, 'more', 'c.jpg'), 'c')
  const both = { inputs: [photos, join(folder, 'more')] }
  await caption({}, { ...both, fail: (image) => (image === 'b' ? undefined : failOn(image)(image)) })
  expect(await linesOf(errorsFile)).toHaveLength(2)
  // One of them has a caption now, and another fails for the second time.
  const { error } = await caption({ retryErrors: true })
  expect(String(error)).toContain('1 image failed')
  expect((await linesOf(errorsFile)).map(({ image }) => image)).toEqual([join(folder, 'more', 'c.jpg')])
  expect((await caption({ retryErrors: true }, { ...both, fail: failOn('c') })).error).toBeInstanceOf(
    IncompleteError,
  )
  expect(await linesOf(errorsFile)).toHaveLength(1)
  expect((await caption({ retryErrors: true }, both)).error).toBeUndefined()
  await expect(readFile(errorsFile)).rejects.toThrow('ENOENT')
})

test.each([
  ['torn', '{"image":"x", "err'],
  ['of zeros', '\0'.repeat(5000)],
  ['of garbage', 'what is this\n'],
])('an error file with an end %s is taken up again', async (_, end) => {
  await addPhotos('a', 'b')
  await caption({}, { fail: (image) => failOn('a')(image) ?? failOn('b')(image) })
  await appendFile(errorsFile, end)
  const { error } = await caption({ retryErrors: true }, { fail: failOn('b') })
  expect(String(error)).toContain('1 image failed')
  expect(await namesIn(errorsFile)).toEqual(['b'])
  await appendFile(errorsFile, end)
  expect((await caption({ retryErrors: true })).error).toBeUndefined()
  await expect(readFile(errorsFile)).rejects.toThrow('ENOENT')
})

test('a failure that was tried again before a crash does not count', async () => {
  await addPhotos('a', 'b')
  await caption({}, { fail: failOn('a') })
  const failures = await readFile(errorsFile, 'utf8')
  await caption({ retryErrors: true })
  await writeFile(errorsFile, failures + failures)
  const { error, stderr } = await caption()
  expect(error).toBeUndefined()
  expect(stderr).toContain('Nothing to do: 2 images')
})

test('--overwrite starts anew', async () => {
  await addPhotos('a', 'b')
  await writeFile(out, captionsOf('xyz'))
  await writeFile(errorsFile, '{"image":"e","error":{}}\n')
  const { error } = await caption({ overwrite: true })
  expect(error).toBeUndefined()
  expect(await namesIn(out)).toEqual(['a', 'b'])
  await expect(readFile(errorsFile)).rejects.toThrow('ENOENT')
})

test('--overwrite leaves everything as it is until an image is done', async () => {
  await writeFile(out, captionsOf('xyz'))
  await writeFile(errorsFile, '{"image":"e","error":{}}\n')
  const { error } = await caption({ overwrite: true })
  expect(error).toBeInstanceOf(IncompleteError)
  expect(await readFile(out, 'utf8')).toBe(captionsOf('xyz'))
  expect(await readFile(errorsFile, 'utf8')).toContain('"e"')
})

describe('what is read or foreign is never written', () => {
  const manifest = '{"image": "photos/a.jpg"}\n'
  const flags = [{}, { overwrite: true }, { retryErrors: true }, { overwrite: true, retryErrors: true }]

  /** Runs with all flags; every run is refused, without advice to overwrite, and leaves the file. */
  async function expectRefused(path: string, given: Partial<CaptionFlags>, inputs: string[]) {
    const before = await readFile(path)
    for (const more of flags) {
      const { error } = await caption({ ...given, ...more }, { inputs })
      expect(error).toBeInstanceOf(UsageError)
      expect((error as Error).message).not.toContain('--overwrite')
      expect(await readFile(path)).toEqual(before)
    }
  }

  beforeEach(() => addPhotos('a'))

  test.each([
    ['a manifest', manifest],
    ['an earlier output', captionsOf('a')],
    ['an error file', '{"image":"photos/a.jpg","error":{}}\n'],
  ])('%s that is the output or the error file, by any name', async (_, content) => {
    const path = join(folder, 'list.jsonl')
    await writeFile(path, content)
    await symlink(path, join(folder, 'symbolic.jsonl'))
    await link(path, join(folder, 'hard.jsonl'))
    for (const name of ['list.jsonl', 'symbolic.jsonl', 'hard.jsonl', 'photos/../list.jsonl']) {
      await expectRefused(path, { out: join(folder, name) }, [path])
      await expectRefused(path, { errors: join(folder, name) }, [path])
    }
  })

  test('a manifest to which standard output is appended', async () => {
    const path = join(folder, 'list.jsonl')
    await writeFile(path, manifest)
    const file = await open(path, 'a')
    try {
      for (const standardOutput of ['-', '/dev/stdout']) {
        const { error } = await caption({ out: standardOutput }, { inputs: [path], stdoutFd: file.fd })
        expect(error).toBeInstanceOf(UsageError)
        expect((error as Error).message).toContain('The file at standard output is read by this command')
      }
      // Nothing but the counts goes there.
      expect((await caption({}, { inputs: [path], stdoutFd: file.fd })).error).toBeUndefined()
    } finally {
      await file.close()
    }
  })

  test('the default output and error file as manifests', async () => {
    await writeFile(out, manifest)
    await expectRefused(out, {}, [out])
    await rm(out)
    await writeFile(errorsFile, '{"image":"photos/a.jpg","error":{}}\n')
    await expectRefused(errorsFile, {}, [errorsFile])
  })

  test.each(['the folder', 'the photo', 'a glob', 'a manifest'])('a photo of %s', async (kind) => {
    const photo = join(photos, 'a.jpg')
    const list = join(folder, 'list.txt')
    await writeFile(list, 'photos/a.jpg\n')
    const input = {
      'the folder': photos,
      'the photo': photo,
      'a glob': join(photos, '*'),
      'a manifest': list,
    }[kind]!
    await expectRefused(photo, { out: photo }, [input])
    await expectRefused(photo, { errors: photo }, [input])
  })

  test.each(['my notes\n', '{"name": "app"}', '{}\n', '\0\0binary', 'custom_id,caption\n'])(
    'a file of something else: %j',
    async (content) => {
      await writeFile(out, content)
      await expectRefused(out, {}, [photos])
      await rm(out)
      await writeFile(errorsFile, content)
      await expectRefused(errorsFile, {}, [photos])
    },
  )

  test('--out and --errors as two names of one file', async () => {
    await writeFile(out, captionsOf('x'))
    await link(out, join(folder, 'hard.jsonl'))
    await expectRefused(out, { errors: join(folder, 'hard.jsonl') }, [photos])
  })
})

test('damage in an earlier output is told, kept, and captioned again', async () => {
  await addPhotos('a', 'b', 'c')
  await caption()
  const lines = (await readFile(out, 'utf8')).split('\n')
  const damaged = `${lines[1]!.slice(0, 30)}\0\0`
  await writeFile(out, [lines[0], damaged, lines[2], ''].join('\n'))
  const { error, stderr } = await caption()
  expect(error).toBeUndefined()
  expect(stderr).toContain(`${out} is damaged at line 2: what is there is kept in ${out}.damaged`)
  expect(await namesIn(out)).toEqual(['a', 'c', 'b'])
  expect(await readFile(`${out}.damaged`, 'utf8')).toBe(`${damaged}\n`)
})

test('what is left out of a folder is said, and only pictures fail the command', async () => {
  await addPhotos('a')
  for (const name of ['.hidden.jpg', '._a.jpg', 'Thumbs.db', 'notes.txt', 'README'])
    await writeFile(join(photos, name), 'text')
  const { error, stderr } = await caption()
  expect(error).toBeUndefined()
  expect(stderr).toContain('skipped: 3 hidden, 2 not images\n')
  await writeFile(join(photos, 'photo.heic'), 'x')
  expect((await caption({}, { fail: failOn('x') })).error).toBeInstanceOf(IncompleteError)
})

test('--json prints the counts', async () => {
  await addPhotos('a', 'b')
  await writeFile(join(photos, 'notes.txt'), '')
  await caption({}, { fail: failOn('b') })
  await addPhotos('c')
  const { stdout } = await caption({ json: true })
  expect(JSON.parse(stdout)).toEqual({
    captioned: 1,
    failed: 1,
    already_done: 1,
    skipped: { not_image: 1 },
    output: out,
    errors: errorsFile,
    seconds: expect.any(Number),
  })
  const piped = await caption({ json: true, out: '-' })
  expect(JSON.parse(piped.stderr.trim().split('\n').at(-1)!)).toMatchObject({ captioned: 3, output: null })
})

test('names that differ in such bytes alone are all found, in folders of such names too', async () => {
  const latin1 = (path: string) => Buffer.from(path.slice(photos.length), 'latin1')
  const at = (path: string) => Buffer.concat([Buffer.from(photos), latin1(path)])
  await mkdir(at(`${photos}/\xe8`))
  await writeFile(at(`${photos}/\xe8/\xe9.jpg`), 'é')
  await writeFile(at(`${photos}/\xe8/\xe0.jpg`), 'à')
  for (const inputs of [
    [photos],
    [join(photos, '*')],
    [join(photos, '\uFFFD', '\uFFFD.jpg')],
    [join(photos, '\uFFFD')],
  ]) {
    await rm(out, { force: true })
    expect((await caption({}, { inputs })).error).toBeUndefined()
    expect((await linesOf(out)).map((line) => line.caption).sort()).toEqual(['caption of à', 'caption of é'])
  }
})

test('a name in Latin-1 is found, read, and resumed', async () => {
  const name = Buffer.concat([Buffer.from(`${photos}/`), Buffer.from('café.jpg', 'latin1')])
  await writeFile(name, 'old')
  await addPhotos('café')
  for (const inputs of [
    [photos],
    [join(photos, '*.jpg')],
    [join(photos, 'caf\uFFFD.jpg'), join(photos, 'café.jpg')],
  ]) {
    await rm(out, { force: true })
    const { error } = await caption({}, { inputs })
    expect(error).toBeUndefined()
    const lines = (await linesOf(out)).map(({ image, caption }) => [image.slice(photos.length + 1), caption])
    expect(lines.sort()).toEqual([
      ['café.jpg', 'caption of café'],
      ['caf\udce9.jpg', 'caption of old'],
    ])
    expect((await caption({}, { inputs })).stderr).toContain('Nothing to do: 2 images')
  }
  const list = join(folder, 'list.txt')
  await writeFile(list, Buffer.concat([Buffer.from(name), Buffer.from('\n')]))
  const listed = await caption({ out: join(folder, 'listed.jsonl') }, { inputs: [list] })
  expect([listed.error, listed.captioner.closed]).toEqual([undefined, true])
  // The output is a list of the same files.
  const again = await caption({ out: join(folder, 'again.jsonl') }, { inputs: [out] })
  expect(again.error).toBeUndefined()
})

test.each(['list.txt', 'list.csv', 'list.json', 'list.tsv', 'LIST.TXT'])('%s is a list', async (name) => {
  await addPhotos('a', 'b')
  const texts: Record<string, string> = {
    '.txt': 'photos/a.jpg\r\nphotos/b.jpg',
    '.csv': 'file_name,text\nphotos/a.jpg,"a, b"\nphotos/b.jpg,\n',
    '.tsv': 'photos/a.jpg\t1\nphotos/b.jpg\t2\n',
    '.json': '[\n  "photos/a.jpg",\n  {"image": "photos/b.jpg"}\n]\n',
  }
  const list = join(folder, name)
  await writeFile(list, texts[name.slice(4).toLowerCase()]!)
  const { error } = await caption({}, { inputs: [list] })
  expect(error).toBeUndefined()
  expect((await linesOf(out)).map(({ image }) => image)).toEqual(['photos/a.jpg', 'photos/b.jpg'])
})

test('captions of another model are not mixed in', async () => {
  await addPhotos('a')
  await caption()
  const before = await readFile(out, 'utf8')
  await addPhotos('b')
  const { error, captioner } = await caption({}, { model: 'other' })
  expect(error).toBeInstanceOf(UsageError)
  expect(String(error)).toMatch(/model fake.*would use other.*another --out/)
  expect(await readFile(out, 'utf8')).toBe(before)
  expect(captioner.closed).toBe(true)
})

test.each(['{"image": "a"}\n', '{"caption": "x", "turbine": {"model": "m"}}\n'])(
  'a file that is not an output is refused: %j',
  async (content) => {
    await addPhotos('a')
    await writeFile(out, content)
    const { error } = await caption()
    expect(error).toBeInstanceOf(UsageError)
    expect(await readFile(out, 'utf8')).toBe(content)
  },
)

test('--out - writes lines to standard output and tells failures on standard error', async () => {
  await addPhotos('a', 'b')
  const { stdout, stderr, error } = await caption({ out: '-' }, { fail: failOn('b') })
  const lines = stdout.trimEnd().split('\n')
  expect(lines.map((line) => JSON.parse(line).caption)).toEqual(['caption of a'])
  expect(stderr).toContain('b.jpg: Not an image. (image_invalid)')
  expect(error).toBeInstanceOf(IncompleteError)
})

test('the first interrupt finishes what is in hand and the next run has the rest', async () => {
  const names = Array.from({ length: 60 }, (_, i) => String(i).padStart(2, '0'))
  await addPhotos(...names)
  let signals: FakeSignals | undefined
  const captioner = new FakeCaptioner({ onTask: () => signals?.emit('SIGINT', 'SIGINT') })
  signals = new FakeSignals()
  const stderr = collect()
  const environment = {
    openCaptioner: async () => captioner,
    readImage: createImageReader(imageAt),
    stdin: noInput(),
    stdout: collect(),
    stderr,
    signals,
  }
  const error: unknown = await runCaption([photos], { out, concurrency: 1 }, environment).catch(
    (thrown) => thrown,
  )
  expect(error).toBeInstanceOf(InterruptedError)
  expect((error as InterruptedError).exitCode).toBe(130)
  expect(String(error)).toContain('same command again')
  expect(await namesIn(out)).toEqual(['00'])
  expect(signals.listenerCount('SIGINT')).toBe(0)
  expect((await caption()).error).toBeUndefined()
  expect(await namesIn(out)).toEqual(names)
})

test('no images at all is a failure that says where', async () => {
  const { error } = await caption()
  expect(String(error)).toContain(`no images in ${photos}`)
})

test('--out and --errors must differ', async () => {
  await addPhotos('a')
  const { error } = await caption({ errors: out })
  expect(error).toBeInstanceOf(UsageError)
})

test('a manifest gives custom ids, and its bad lines cost nothing but themselves', async () => {
  await addPhotos('a', 'b')
  const manifest = join(folder, 'list.jsonl')
  await writeFile(manifest, '{"image": "photos/a.jpg", "custom_id": "first"}\n{oops\nphotos/b.jpg\n')
  await caption({}, { inputs: [manifest] })
  expect(await linesOf(out)).toMatchObject([
    { custom_id: 'first', image: 'photos/a.jpg' },
    { image: 'photos/b.jpg' },
  ])
  expect(await linesOf(errorsFile)).toMatchObject([
    { image: 'list.jsonl:2', error: { code: 'invalid_json_line' } },
  ])
  await appendFile(manifest, '{"image": "photos/a.jpg", "custom_id": "second"}\n')
  await caption({}, { inputs: [manifest] })
  expect((await linesOf(out)).map(({ image }) => image)).toEqual([
    'photos/a.jpg',
    'photos/b.jpg',
    'photos/a.jpg',
  ])
})

test.each(['-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'])('%s is standard output', async (name) => {
  await addPhotos('a')
  const { stdout, error } = await caption({ out: name })
  expect(error).toBeUndefined()
  expect(JSON.parse(stdout).caption).toBe('caption of a')
})

test('pipes take captions and errors, as of a process substitution', async () => {
  await addPhotos('a', 'b')
  const pipes = { out: join(folder, 'out'), errors: join(folder, 'errors') }
  execFileSync('mkfifo', Object.values(pipes))
  const [, out, errors] = await Promise.all([
    caption(pipes, { fail: failOn('b') }),
    linesOf(pipes.out),
    linesOf(pipes.errors),
  ])
  expect(out).toMatchObject([{ caption: 'caption of a' }])
  expect(errors).toMatchObject([{ error: { code: 'image_invalid' } }])
})

test.each([{ out: '/dev/full' }, { errors: '/dev/zero' }, { out: '/dev/null', overwrite: true }])(
  '%j is refused before anything is read',
  async (flags) => {
    await addPhotos('a')
    const { error, captioner } = await caption(flags)
    expect(error).toBeInstanceOf(UsageError)
    expect((error as Error).message).toContain('no regular file')
    expect(captioner.closed).toBe(false)
  },
)

test('a pipe in a folder fails alone, and as a manifest is refused with the remedy', async () => {
  await addPhotos('a', 'c')
  execFileSync('mkfifo', [join(photos, 'b.jpg'), join(folder, 'list.jsonl')])
  await caption()
  expect(await namesIn(out)).toEqual(['a', 'c'])
  expect(await namesIn(errorsFile)).toEqual(['b'])
  const { error } = await caption({}, { inputs: [join(folder, 'list.jsonl')] })
  expect((error as Error).message).toContain('standard input: -')
})
