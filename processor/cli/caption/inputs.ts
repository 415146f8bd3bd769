import { createReadStream } from 'node:fs'
import { glob, stat } from 'node:fs/promises'
import { basename, dirname, extname } from 'node:path'
import { headBytes, imageFormat, type Skipped } from '../../../edge/contract/formats/file-kind.ts'
import { type LineSplitterOptions, readLines } from '../../../edge/contract/lines.ts'
import { ListFileError, readList } from '../../../edge/contract/lists/list-file.ts'
import { readFileHead } from '../../../infra/fetch/image-file.ts'
import { decodeFileName, encodeFileName } from '../../../infra/file-name.ts'
import { UsageError } from '../errors.ts'
import { expandGlob, fileSource, namesWithBytes, walkFolder } from './folder.ts'
import { isAddress, lineSource, locate, type ManifestPlace, type Source } from './manifest.ts'
import { tableReading } from './tables/list-row.ts'
import { openTable, parquetRows } from './tables/parquet-source.ts'
import { shardSamples } from './tables/tar-source.ts'

/** Command-line argument by its kind. */
export type Input =
  | { kind: 'folder' | 'image' | 'manifest' | 'glob' | 'table' | 'shard'; path: string }
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

/** Tables in Parquet, and shards of a WebDataset, which have their pictures in them. */
const dataFiles = new Map<string, 'table' | 'shard'>([
  ['.parquet', 'table'],
  ['.tar', 'shard'],
  ['.tgz', 'shard'],
])

/** `train-0.tar.gz` is a shard too. */
function dataFileKind(path: string): 'table' | 'shard' | undefined {
  return /\.tar\.gz$/i.test(path) ? 'shard' : dataFiles.get(extname(path).toLowerCase())
}

const standardInput = new Set(['-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0'])

/** Finds the kind of each argument; `-` is a manifest on standard input. @throws UsageError for a missing file */
export async function resolveInputs(args: string[]): Promise<Input[]> {
  const inputs = await Promise.all(args.map(resolveArgument))
  return inputs.flat()
}

async function resolveArgument(arg: string): Promise<Input[]> {
  if (standardInput.has(arg)) return [{ kind: 'stdin' }]
  if (isAddress(arg)) return [{ kind: 'address', url: arg }]
  const inputs = await Promise.all((await namesWithBytes(arg)).map(resolvePath))
  const expanded = await Promise.all(inputs.map(expandFiles))
  return expanded.flat()
}

/** A pattern of lists, tables or shards is each of them: `data/*.parquet`, `{00000..00999}.tar`. @throws UsageError */
async function expandFiles(input: Input): Promise<Input[]> {
  if (input.kind !== 'glob') return [input]
  const { path } = input
  if (!dataFileKind(path) && !listExtensions.has(extname(path).toLowerCase())) return [input]
  const paths: string[] = []
  for await (const found of glob(path)) paths.push(found)
  if (paths.length === 0) throw new UsageError(`There is no file ${path}.`)
  const files = await Promise.all(paths.sort().map(resolvePath))
  return files.filter(({ kind }) => kind !== 'folder')
}

async function resolvePath(path: string): Promise<Input> {
  const found = await stat(encodeFileName(path)).catch(() => undefined)
  if (found?.isDirectory()) return { kind: 'folder', path }
  if (found && (await isList(path, found.isFile()))) {
    if (found.isFile()) return { kind: 'manifest', path }
    throw new UsageError(`${path} is no regular file. Pass a manifest through standard input: -`)
  }
  const kind = found?.isFile() ? dataFileKind(path) : undefined
  if (kind) return { kind, path }
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

export interface ReadOptions extends Pick<ManifestPlace, 'model' | 'reading' | 'tables'> {
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
    else if (input.kind === 'table') yield* parquetRows(input.path, lines.tables ?? noColumns)
    else if (input.kind === 'shard') yield* shardSamples(input.path, lines.tables ?? noColumns)
    else if (input.kind === 'manifest')
      yield* readManifest(openFile(input.path), {
        manifest: basename(input.path),
        path: input.path,
        folder: dirname(input.path),
        ...lines,
      })
    else yield* readManifest(stdin, { manifest: 'standard input', folder: '', ...lines })
  }
}

const noColumns = { columns: {} }

const openFile = (path: string) => createReadStream(encodeFileName(path))

/** Counts the sources; undefined for standard input, which can be read only once, and for shards, which are as large as their pictures. */
export async function countSources(inputs: Input[], signal?: AbortSignal): Promise<number | undefined> {
  if (inputs.some(({ kind }) => kind === 'stdin' || kind === 'shard')) return undefined
  let total = 0
  for (const input of inputs) {
    for await (const count of countsOf(input)) {
      if (signal?.aborted) return undefined
      total += count
    }
  }
  return total
}

function countsOf(input: Input): AsyncIterable<number> {
  if (input.kind === 'manifest') return countLines(input.path)
  return input.kind === 'table' ? countRows(input.path) : countEach(input)
}

async function* countRows(path: string): AsyncGenerator<number> {
  const file = await openTable(path)
  yield file.rows
  await file.close()
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
    for await (const lines of readLines(
      readList(bytes, place.manifest, place.tables && tableReading(place.tables)),
      manifestLines,
    ))
      for (const line of lines) {
        const source = lineSource(line, place)
        if (source) yield source
      }
  } catch (error) {
    if (!(error instanceof ListFileError)) throw error
    throw new UsageError(`${place.manifest}: ${error.message}`, { cause: error })
  }
}
