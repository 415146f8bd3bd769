import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, dirname, extname } from 'node:path'
import { headBytes, imageFormat, type Skipped } from '../../../edge/contract/formats/file-kind.ts'
import { type LineSplitterOptions, readLines } from '../../../edge/contract/lines.ts'
import { ListFileError, readList } from '../../../edge/contract/lists/list-file.ts'
import { readFileHead } from '../../../infra/fetch/image-file.ts'
import { decodeFileName, encodeFileName } from '../../../infra/file-name.ts'
import { UsageError } from '../errors.ts'
import { expandGlob, fileSource, namesWithBytes, walkFolder } from './folder.ts'
import { isAddress, lineSource, locate, type ManifestPlace, type Source } from './manifest.ts'

/** Command-line argument by its kind. */
export type Input =
  | { kind: 'folder' | 'image' | 'manifest' | 'glob'; path: string }
  | { kind: 'address'; url: string }
  | { kind: 'stdin' }

/** Extensions of lists: lines, arrays of JSON, tables. */
export const listExtensions: ReadonlySet<string> = new Set([
  '.jsonl',
  '.ndjson',
  '.json',
  '.txt',
  '.list',
  '.lst',
  '.csv',
  '.tsv',
])

const standardInput = new Set(['-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0'])

/** Finds the kind of each argument; `-` is a manifest on standard input. @throws UsageError for a missing file */
export async function resolveInputs(args: string[]): Promise<Input[]> {
  const inputs = await Promise.all(args.map(resolveArgument))
  return inputs.flat()
}

async function resolveArgument(arg: string): Promise<Input[]> {
  if (standardInput.has(arg)) return [{ kind: 'stdin' }]
  if (isAddress(arg)) return [{ kind: 'address', url: arg }]
  return Promise.all((await namesWithBytes(arg)).map(resolvePath))
}

async function resolvePath(path: string): Promise<Input> {
  const found = await stat(encodeFileName(path)).catch(() => undefined)
  if (found?.isDirectory()) return { kind: 'folder', path }
  if (found && (await isList(path, found.isFile()))) {
    if (found.isFile()) return { kind: 'manifest', path }
    throw new UsageError(`${path} is no regular file. Pass a manifest through standard input: -`)
  }
  if (found) return { kind: 'image', path }
  if (/[*?[{]/.test(path)) return { kind: 'glob', path }
  throw new UsageError(`There is no file or folder "${path}".`)
}

/** A photo that is called `photo.txt` is one all the same. */
async function isList(path: string, isFile: boolean): Promise<boolean> {
  if (!listExtensions.has(extname(path).toLowerCase())) return false
  const head = isFile ? await readFileHead(path, headBytes).catch(() => undefined) : undefined
  return head === undefined || imageFormat(head) === undefined
}

export interface ReadOptions extends Pick<ManifestPlace, 'model' | 'reading'> {
  stdin: AsyncIterable<Uint8Array>
  /** Counts what is left out of folders. */
  skipped?: Skipped
}

/**
 * Yields the images of all inputs in order; folders and globs sorted by name. Only the names of one folder or glob are
 * held in memory.
 */
export async function* readSources(
  inputs: Input[],
  { stdin, skipped = {}, ...lines }: ReadOptions,
): AsyncGenerator<Source> {
  for (const input of inputs) {
    if (input.kind === 'folder') yield* walkFolder(input.path, skipped)
    else if (input.kind === 'glob') yield* expandGlob(input.path, skipped)
    else if (input.kind === 'image') yield fileSource(input.path)
    else if (input.kind === 'address') yield locate(input.url)
    else if (input.kind === 'manifest')
      yield* readManifest(openFile(input.path), {
        manifest: basename(input.path),
        folder: dirname(input.path),
        ...lines,
      })
    else yield* readManifest(stdin, { manifest: 'standard input', folder: '', ...lines })
  }
}

const openFile = (path: string) => createReadStream(encodeFileName(path))

/** Counts the sources; undefined for standard input, which can be read only once. */
export async function countSources(inputs: Input[], signal?: AbortSignal): Promise<number | undefined> {
  if (inputs.some((input) => input.kind === 'stdin')) return undefined
  let total = 0
  for (const input of inputs) {
    for await (const count of input.kind === 'manifest' ? countLines(input.path) : countEach(input)) {
      if (signal?.aborted) return undefined
      total += count
    }
  }
  return total
}

/** Counts lines without parsing them: they may contain whole images. */
async function* countLines(path: string): AsyncGenerator<number> {
  for await (const lines of readLines(readList(openFile(path), path), manifestLines))
    yield lines.filter(({ text }) => text?.trim() !== '').length
}

async function* countEach(input: Input): AsyncGenerator<number> {
  for await (const _ of readSources([input], { stdin: ReadableStream.from<Uint8Array>([]) })) yield 1
}

/** A local image may be larger than a service accepts. */
const manifestLines: LineSplitterOptions = {
  maxBytes: Number.POSITIVE_INFINITY,
  // A bare path, as `ls` prints it.
  decodeOther: (bytes) => (/^[{["]/.test(bytes.toString('latin1', 0, 1)) ? undefined : decodeFileName(bytes)),
}

async function* readManifest(bytes: AsyncIterable<Uint8Array>, place: ManifestPlace): AsyncGenerator<Source> {
  try {
    for await (const lines of readLines(readList(bytes, place.manifest), manifestLines))
      for (const line of lines) {
        const source = lineSource(line, place)
        if (source) yield source
      }
  } catch (error) {
    if (!(error instanceof ListFileError)) throw error
    throw new UsageError(`${place.manifest}: ${error.message}`, { cause: error })
  }
}
