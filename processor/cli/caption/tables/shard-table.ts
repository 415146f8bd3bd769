import { createReadStream, createWriteStream } from 'node:fs'
import { basename } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type Pack, pack } from 'tar-stream'
import { keyOf, readSamples, type Sample } from '../../../../infra/data-files/tar-samples.ts'
import { readImageFile } from '../../../../infra/fetch/image-file.ts'
import { encodeFileName } from '../../../../infra/file-name.ts'
import { UsageError } from '../../errors.ts'
import { replaceFile } from '../../replace-file.ts'
import type { OutputLine } from '../earlier-run.ts'
import { readJournal } from './journal.ts'

/** Samples of a shard that is made of files of pictures. */
const shardSamples = 10_000

/** Shards of a pattern, at most. */
const mostShards = 1_000_000

/** The member that has the whole line of an output, from which a run can be resumed. */
const lineExtension = 'turbine.json'

const range = /\{(\d+)\.\.(\d+)\}/

/** The paths that a pattern like `out-{00000..00999}.tar` stands for, one after the other; without one, itself. */
export function* shardPaths(out: string): Generator<string> {
  const [pattern, first, last] = range.exec(out) ?? []
  if (pattern === undefined || first === undefined) {
    yield out
    return
  }
  if (!(Number(first) <= Number(last) && Number(last) - Number(first) < mostShards))
    throw new UsageError(
      `${out} is no pattern of shards. Use one like out-{00000..00999}.tar, with up to ${mostShards}.`,
    )
  for (let number = Number(first); number <= Number(last); number++)
    yield out.replace(pattern, String(number).padStart(first.length, '0'))
}

const isPattern = (out: string) => range.test(out)

/**
 * Writes WebDataset shards: the samples of the input with all their members, and their captions. With a pattern in its name
 * there is a shard for each of the input, or for 10,000 pictures.
 * @param caption extension of the caption, e.g. `txt`; a member of the input that has it is kept as `input_txt`
 */
export async function writeShards(
  journal: string,
  out: string,
  { caption }: { caption: string },
): Promise<void> {
  const paths = shardPaths(out)
  const samples = new InputSamples()
  const lines = linesOf(journal)
  let next = await lines.next()
  while (!next.done) {
    const { value: path } = paths.next()
    if (path === undefined)
      throw new UsageError(
        `${out} has not enough numbers for all shards. Give it more: the captions are kept.`,
      )
    await replaceFile(path, async (part) => {
      const tar = pack()
      const written = pipeline(tar, createWriteStream(part, { flags: 'a' }))
      // It is awaited at the end; a failure also ends what is written to it.
      written.catch(() => {})
      const shard = shardOf(next.value as OutputLine)
      for (let count = 0; !next.done; count++) {
        if (
          isPattern(out) &&
          (shardOf(next.value) !== shard || (shard === undefined && count >= shardSamples))
        )
          break
        await writeSample(tar, next.value, { samples, caption })
        next = await lines.next()
      }
      tar.finalize()
      await written
    })
  }
  await samples.close()
}

async function* linesOf(journal: string): AsyncGenerator<OutputLine> {
  for await (const lines of readJournal(journal)) yield* lines
}

/** The shard of the input that a line is of. */
const shardOf = ({ row }: OutputLine) => (row === undefined ? undefined : row.slice(0, row.lastIndexOf(':')))

async function writeSample(
  tar: Pack,
  line: OutputLine,
  { samples, caption }: { samples: InputSamples; caption: string },
): Promise<void> {
  const { key, members } = line.row === undefined ? await fileSample(line) : await samples.at(line.row)
  for (const { extension, bytes } of members)
    if (extension !== lineExtension)
      await add(tar, `${key}.${extension === caption ? `input_${extension}` : extension}`, bytes)
  await add(tar, `${key}.${caption}`, Buffer.from(line.caption))
  await add(tar, `${key}.${lineExtension}`, Buffer.from(JSON.stringify(line)))
}

function add(tar: Pack, name: string, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    tar.entry({ name, size: bytes.length }, Buffer.from(bytes), (error) =>
      error ? reject(error) : resolve(),
    )
  })
}

/** A picture in a folder: its path is its key. */
async function fileSample({ image }: OutputLine): Promise<Sample> {
  const bytes = await readImageFile(image)
  const { key, extension } = keyOf(image.replace(/^(?:\.{0,2}\/)+/, ''))
  return { key, members: [{ name: basename(image), extension: extension || 'jpg', bytes }] }
}

/** Samples of the shards of the input; in their own order each shard is read once. */
class InputSamples {
  #path = ''
  #samples: AsyncGenerator<Sample> | undefined

  /** @throws UsageError when the shard has no such sample any more */
  async at(row: string): Promise<Sample> {
    const colon = row.lastIndexOf(':')
    const path = row.slice(0, colon)
    const key = row.slice(colon + 1)
    // From where it is, and once more from the beginning: what was tried again comes later.
    for (let tries = 0; tries < 2; tries++) {
      if (path !== this.#path || !this.#samples) {
        await this.close()
        this.#path = path
        this.#samples = readSamples(createReadStream(encodeFileName(path)), path)
      }
      for (let next = await this.#samples.next(); !next.done; next = await this.#samples.next())
        if (next.value.key === key) return next.value
      this.#samples = undefined
    }
    throw new UsageError(`${path} has changed: it has no sample ${key} any more.`)
  }

  async close(): Promise<void> {
    await this.#samples?.return(undefined)
    this.#samples = undefined
  }
}

/** Yields the lines of which shards were made. */
export async function* readShardLines(out: string): AsyncGenerator<OutputLine | undefined> {
  for (const path of shardPaths(out)) {
    const bytes = createReadStream(encodeFileName(path))
    const isThere = await new Promise<boolean>((resolve) =>
      bytes.once('open', () => resolve(true)).once('error', () => resolve(false)),
    )
    if (!isThere) return
    for await (const { members } of readSamples(bytes, path)) {
      const member = members.find(({ extension }) => extension === lineExtension)
      yield member && (JSON.parse(Buffer.from(member.bytes).toString()) as OutputLine)
    }
  }
}
