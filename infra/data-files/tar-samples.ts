import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { extract, type Header } from 'tar-stream'
import { DataFileError, damaged } from './data-file-error.ts'

/** Member of a sample. */
export interface Member {
  /** As in the tar. */
  name: string
  /** What follows the first dot of its file's name, in lower case. */
  extension: string
  bytes: Uint8Array
}

/** Members of a WebDataset shard that follow each other and have the same name up to the first dot. */
export interface Sample {
  key: string
  members: Member[]
}

/** Bytes of a member, and of a sample with all its members; larger ones are no pictures with words about them. */
const maxMemberBytes = 512 * 1024 * 1024
const maxSampleMembers = 256
const gzipMagic = [0x1f, 0x8b]

/**
 * Yields the samples of a WebDataset shard, one in memory at a time. Names are only compared, never opened as paths; folders,
 * links and what is hidden are passed over.
 * @param path for messages
 * @throws DataFileError when it is cut off or damaged
 */
export async function* readSamples(bytes: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<Sample> {
  let last = ''
  try {
    let sample: Sample | undefined
    for await (const member of readMembers(bytes)) {
      last = member.name
      const { key, extension } = keyOf(member.name)
      if (sample && (sample.key !== key || sample.members.length >= maxSampleMembers)) {
        yield sample
        sample = undefined
      }
      sample ??= { key, members: [] }
      sample.members.push({ ...member, extension })
    }
    if (sample) yield sample
  } catch (error) {
    throw damaged(path, last === '' ? 'at its beginning' : `behind ${JSON.stringify(last)}`, error)
  }
}

async function* readMembers(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Omit<Member, 'extension'>> {
  const tar = extract()
  const { all, isCompressed } = await peeked(bytes)
  const sink = tar as unknown as NodeJS.WritableStream
  const source = isCompressed ? pipeline(all, createGunzip(), sink) : pipeline(all, sink)
  // Its failure ends the entries, too.
  source.catch(() => {})
  let isAny = false
  for await (const entry of tar) {
    isAny = true
    const header: Header = entry.header
    const isFile = header.type === 'file' || header.type === 'contiguous-file'
    if (!isFile || isHidden(header.name)) {
      entry.resume()
      continue
    }
    yield { name: header.name, bytes: await bodyOf(entry as AsyncIterable<Uint8Array>, header) }
  }
  await source
  if (!isAny) throw new DataFileError('it has no members')
}

/** What comes, and never what the header says, is held. */
async function bodyOf(entry: AsyncIterable<Uint8Array>, { name, size = 0 }: Header): Promise<Uint8Array> {
  if (!(size >= 0 && size <= maxMemberBytes))
    throw new DataFileError(
      `${JSON.stringify(name)} says it has ${size} bytes; ${maxMemberBytes} are the most`,
    )
  const chunks: Uint8Array[] = []
  for await (const chunk of entry) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** A shard may be compressed as a whole. */
async function peeked(bytes: AsyncIterable<Uint8Array>): Promise<{ all: Readable; isCompressed: boolean }> {
  const chunks = bytes[Symbol.asyncIterator]()
  const { value: head = new Uint8Array() } = await chunks.next()
  async function* whole(): AsyncGenerator<Uint8Array> {
    yield head
    yield* { [Symbol.asyncIterator]: () => chunks }
  }
  return { all: Readable.from(whole()), isCompressed: gzipMagic.every((byte, index) => head[index] === byte) }
}

/** `folder/000.seg.png` is the member `seg.png` of the sample `folder/000`. */
export function keyOf(name: string): { key: string; extension: string } {
  const folder = name.lastIndexOf('/') + 1
  const dot = name.indexOf('.', folder)
  return dot === -1
    ? { key: name, extension: '' }
    : { key: name.slice(0, dot), extension: name.slice(dot + 1).toLowerCase() }
}

/** `__MACOSX/`, `._000.jpg` and the like: left by systems. */
const isHidden = (name: string) => name.split('/').some((part) => /^(?:\.(?!\.?$)|__MACOSX$)/.test(part))
