import { execFileSync } from 'node:child_process'
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
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
  options: FakeCaptionerOptions & { inputs?: string[] } = {},
) {
  const captioner = new FakeCaptioner(options)
  const stdout = collect()
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
  expect(stderr).toContain('2 skipped')
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

test('--overwrite starts anew', async () => {
  await addPhotos('a', 'b')
  await writeFile(out, 'something else\n')
  await writeFile(errorsFile, '{}\n')
  const { error } = await caption({ overwrite: true })
  expect(error).toBeUndefined()
  expect(await namesIn(out)).toEqual(['a', 'b'])
  await expect(readFile(errorsFile)).rejects.toThrow('ENOENT')
})

test('captions of another model are not mixed in', async () => {
  await addPhotos('a')
  await caption()
  const before = await readFile(out, 'utf8')
  await addPhotos('b')
  const { error, captioner } = await caption({}, { model: 'other' })
  expect(error).toBeInstanceOf(UsageError)
  expect(String(error)).toMatch(/model fake.*would use other.*--overwrite/)
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
