import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import type { FailureLine, OutputLine } from '../../processor/cli/caption/earlier-run.ts'
import { drawPictures, type Picture } from './pictures.ts'
import { runTurbine, startTurbine, type Turbine, temporaryFolder } from './turbine.ts'

/** Images of the folder that can be captioned, in the order in which they are listed. */
const names = Array.from({ length: 72 }, (_, i) => join('photos', `${i < 36 ? 'a' : 'b'}`, `${100 + i}`)).map(
  (path, i) => `${path}.${i % 2 ? 'png' : 'jpg'}`,
)
const broken = join('photos', 'a', '110-broken.jpg')

let folder: string
let pictures: Picture[]
/** What an undisturbed run says of every image. */
let captions: Map<string, string>

beforeAll(async () => {
  folder = await temporaryFolder()
  pictures = await drawPictures(12)
  for (const name of ['a', 'b']) await mkdir(join(folder, 'photos', name), { recursive: true })
  for (const [i, name] of names.entries()) {
    const { jpeg, png } = pictures[i % pictures.length]!
    await writeFile(join(folder, name), name.endsWith('png') ? png : jpeg)
  }
  await writeFile(join(folder, broken), pictures[0]!.jpeg.subarray(0, 1000))
  await writeFile(join(folder, 'photos', 'notes.txt'), 'no image')
})

const caption = (...args: string[]) => runTurbine(['caption', ...args], { cwd: folder })

async function readLines<T>(name: string): Promise<T[]> {
  const text = await readFile(join(folder, name), 'utf8')
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as T)
}

test('every image gets its line, in order, and a broken one a line in the error file', async () => {
  const { code, stdout, stderr } = await caption('photos', '--out', 'all.jsonl')
  expect([code, stdout]).toEqual([1, ''])
  expect(stderr).toMatch(/^72 images captioned in .*: all\.jsonl$/m)
  expect(stderr).toMatch(/\nturbine: 1 image failed, see all\.errors\.jsonl\. [^\n]+\n$/)
  const lines = await readLines<OutputLine>('all.jsonl')
  expect(lines.map(({ image }) => image)).toEqual(names)
  for (const [i, line] of lines.entries()) {
    expect(line.caption).toMatch(/^a (small|large) /)
    // Files of one picture say the same, whichever batch they were in.
    if (i % 2) expect(line.caption).toBe(lines[(i + pictures.length) % lines.length]!.caption)
    expect(line.turbine).toMatchObject({ prune_level: 0, prune_ratio: 0 })
  }
  const errors = await readLines<FailureLine>('all.errors.jsonl')
  expect(errors).toEqual([{ image: broken, error: { code: 'image_invalid', message: expect.any(String) } }])
  captions = new Map(lines.map((line) => [line.image, line.caption]))
})

test('the same command again has nothing to do, but still says what is missing', async () => {
  const before = await readFile(join(folder, 'all.jsonl'))
  const { code, stderr } = await caption('photos', '--out', 'all.jsonl')
  expect(code).toBe(1)
  expect(stderr).toMatch(/Nothing to do: 73 images/)
  expect(await readFile(join(folder, 'all.jsonl'))).toEqual(before)
})

/** Starts a run that takes a few images at a time, and waits until the first lines are written. */
async function startRun(out: string): Promise<Turbine> {
  const turbine = startTurbine(['caption', 'photos', '--out', out, '--concurrency', '3'], { cwd: folder })
  const size = () =>
    stat(join(folder, out)).then(
      (found) => found.size,
      () => 0,
    )
  while ((await size()) === 0) await delay(2)
  return turbine
}

async function expectEveryLineOnce(out: string): Promise<void> {
  const lines = await readLines<OutputLine>(out)
  expect(lines.map(({ image }) => image)).toEqual(names)
  for (const { image, caption } of lines) expect(caption).toBe(captions.get(image))
  const errors = await readLines<FailureLine>(out.replace('.jsonl', '.errors.jsonl'))
  expect(errors.map(({ image }) => image)).toEqual([broken])
}

test('Ctrl-C finishes the images in hand, and the same command goes on from there', async () => {
  const run = await startRun('stopped.jsonl')
  run.kill('SIGINT')
  expect(await run.exited).toEqual({ code: 130, signal: null })
  expect(run.stderr).toMatch(/\nturbine: Stopped\. Run the same command again to resume\.\n$/)
  const written = await readLines<OutputLine>('stopped.jsonl')
  expect(written.length).toBeLessThan(names.length)
  const { code, stderr } = await caption('photos', '--out', 'stopped.jsonl')
  expect(code).toBe(1)
  expect(stderr).toMatch(/\d+ already done/)
  await expectEveryLineOnce('stopped.jsonl')
})

test('after being killed the same command goes on where it was', async () => {
  const run = await startRun('killed.jsonl')
  run.kill('SIGKILL')
  expect(await run.exited).toEqual({ code: null, signal: 'SIGKILL' })
  // The line that was being written when the process died.
  await writeFile(join(folder, 'killed.jsonl'), '{"image":"photos/a', { flag: 'a' })
  await caption('photos', '--out', 'killed.jsonl')
  await expectEveryLineOnce('killed.jsonl')
})

test('--level prunes every image alike', async () => {
  const { code, stderr } = await caption('photos/a/*.png', '--out', 'pruned.jsonl', '--level', '3')
  expect(code).toBe(0)
  expect(stderr).toMatch(/\d+ % of the image tokens merged/)
  const lines = await readLines<OutputLine>('pruned.jsonl')
  expect(lines.map(({ image }) => image)).toEqual(names.filter((name) => /a.*png$/.test(name)))
  for (const { turbine } of lines) {
    expect(turbine).toMatchObject({ prune_level: 3, tokens_out: lines[0]!.turbine.tokens_out })
    expect(turbine.tokens_out).toBeLessThan(turbine.tokens_in)
  }
})

test('a manifest from standard input to standard output, with its ids and its errors', async () => {
  const url = `data:image/jpeg;base64,${Buffer.from(pictures[0]!.jpeg).toString('base64')}`
  const entries = [
    JSON.stringify({ image: join(folder, names[0]!), custom_id: 'first' }),
    'no json {',
    '{"image": ',
    JSON.stringify({ image: url, custom_id: 'second' }),
  ]
  const turbine = startTurbine(['caption', '-', '--out', '-', '--errors', 'stdin.errors.jsonl'], {
    cwd: folder,
  })
  turbine.stdin.end(entries.join('\n'))
  expect(await turbine.exited).toMatchObject({ code: 1 })
  const lines = turbine.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as OutputLine)
  expect(lines.map(({ custom_id: id }) => id)).toEqual(['first', 'second'])
  for (const line of lines) expect(line.caption).toBe(captions.get(names[0]!))
  const errors = await readLines<FailureLine>('stdin.errors.jsonl')
  expect(errors.map(({ image }) => image)).toEqual(['no json {', 'standard input:3'])
})

test.each([
  ['a level that the model has not', ['photos', '--level', '99'], /Level 99 is unknown; .*levels 0 to \d+\./],
  ['a folder that is not there', ['nowhere'], /There is no file or folder "nowhere"\./],
])('%s is wrong usage: one line and exit code 2', async (_, args, message) => {
  const { code, stdout, stderr } = await caption(...args, '--out', 'refused.jsonl')
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr).toMatch(/^turbine: [^\n]+\n$/)
  expect(stderr).toMatch(message)
})
