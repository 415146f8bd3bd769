import { createReadStream } from 'node:fs'
import { glob, opendir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, extname, isAbsolute, join, relative, sep } from 'node:path'
import { TurbineError } from '../../../edge/contract/errors.ts'
import { readLines } from '../../../edge/contract/lines.ts'
import { UsageError } from '../errors.ts'
import { isAddress, lineSource, locate, type ManifestPlace, type Source } from './manifest.ts'

/** Command-line argument by its kind. */
export type Input =
  | { kind: 'folder' | 'image' | 'manifest' | 'glob'; path: string }
  | { kind: 'address'; url: string }
  | { kind: 'stdin' }

/** Extensions of images in folders and globs. */
export const imageExtensions = ['jpg', 'jpeg', 'jpe', 'jfif', 'png', 'webp', 'gif', 'tif', 'tiff', 'avif']
const manifestExtensions = ['jsonl', 'ndjson']

const hasExtension = (path: string, extensions: string[]) =>
  extensions.includes(extname(path).slice(1).toLowerCase())
const isImageName = (path: string) => hasExtension(path, imageExtensions)

/** Finds the kind of each argument; `-` is a manifest on standard input. @throws UsageError for a missing file */
export async function resolveInputs(args: string[]): Promise<Input[]> {
  return Promise.all(args.map(resolveInput))
}

async function resolveInput(arg: string): Promise<Input> {
  if (arg === '-') return { kind: 'stdin' }
  if (isAddress(arg)) return { kind: 'address', url: arg }
  const found = await stat(arg).catch(() => undefined)
  if (found?.isDirectory()) return { kind: 'folder', path: arg }
  if (found && hasExtension(arg, manifestExtensions)) {
    if (found.isFile()) return { kind: 'manifest', path: arg }
    throw new UsageError(`${arg} is no regular file. Pass a manifest through standard input: -`)
  }
  if (found) return { kind: 'image', path: arg }
  if (/[*?[{]/.test(arg)) return { kind: 'glob', path: arg }
  throw new UsageError(`There is no file or folder "${arg}".`)
}

/**
 * Yields the images of all inputs in order; folders and globs sorted by name. Only the names of one folder or glob are
 * held in memory. Manifest lines for another model than that of `lines` become errors.
 */
export async function* readSources(
  inputs: Input[],
  stdin: AsyncIterable<Uint8Array>,
  lines: Pick<ManifestPlace, 'model' | 'reading'> = {},
): AsyncGenerator<Source> {
  for (const input of inputs) {
    if (input.kind === 'folder') yield* walk(input.path)
    else if (input.kind === 'glob') yield* expand(input.path)
    else if (input.kind === 'image') yield fileSource(input.path)
    else if (input.kind === 'address') yield locate(input.url)
    else if (input.kind === 'manifest')
      yield* readManifest(createReadStream(input.path), {
        manifest: basename(input.path),
        folder: dirname(input.path),
        ...lines,
      })
    else yield* readManifest(stdin, { manifest: 'standard input', folder: '', ...lines })
  }
}

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
  for await (const lines of readLines(createReadStream(path), manifestLines))
    yield lines.filter(({ text }) => text?.trim() !== '').length
}

async function* countEach(input: Input): AsyncGenerator<number> {
  for await (const _ of readSources([input], ReadableStream.from<Uint8Array>([]))) yield 1
}

/** Output has forward slashes on every platform. */
const fileSource = (path: string): Source => ({
  image: sep === '/' ? path : path.replaceAll(sep, '/'),
  location: path,
})

/** A local image may be larger than a service accepts. */
const manifestLines = { maxBytes: Number.POSITIVE_INFINITY }

async function* readManifest(bytes: AsyncIterable<Uint8Array>, place: ManifestPlace): AsyncGenerator<Source> {
  for await (const lines of readLines(bytes, manifestLines))
    for (const line of lines) {
      const source = lineSource(line, place)
      if (source) yield source
    }
}

async function* expand(pattern: string): AsyncGenerator<Source> {
  const matches: { path: string; folder: boolean }[] = []
  for await (const entry of glob(pattern, { withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    matches.push({ path: isAbsolute(pattern) ? path : relative('', path), folder: entry.isDirectory() })
  }
  for (const { path, folder } of matches.sort((a, b) => byCodeUnit(a.path, b.path))) {
    if (folder) yield* walk(path)
    else if (isImageName(path)) yield fileSource(path)
  }
}

const byCodeUnit = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

/** Yields images under a folder, depth first. Skips hidden entries; follows links, but not in cycles. */
async function* walk(folder: string, ancestors: string[] = []): AsyncGenerator<Source> {
  let names: string[]
  let path: string
  try {
    path = await realpath(folder)
    if (ancestors.includes(path)) return
    names = await listNames(folder)
  } catch (error) {
    yield unreadableFolder(folder, error)
    return
  }
  // Folder names end in "/", which gives the order of sorted paths.
  for (const name of names) {
    if (name.endsWith('/')) yield* walk(join(folder, name.slice(0, -1)), [...ancestors, path])
    else yield fileSource(join(folder, name))
  }
}

/** Sorted names of a folder's images and sub-folders; the latter end in `/`. */
async function listNames(folder: string): Promise<string[]> {
  const names: string[] = []
  for await (const entry of await opendir(folder, { bufferSize: 256 })) {
    if (entry.name.startsWith('.')) continue
    const isFolder =
      entry.isDirectory() || (entry.isSymbolicLink() && (await isFolderAt(join(folder, entry.name))))
    if (isFolder) names.push(`${entry.name}/`)
    else if (isImageName(entry.name)) names.push(entry.name)
  }
  return names.sort()
}

const isFolderAt = (path: string) =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )

const unreadableFolder = (folder: string, cause: unknown): Source => ({
  image: folder,
  error: new TurbineError(`The folder ${folder} cannot be read. Check its permissions.`, {
    status: 400,
    code: 'folder_unreadable',
    cause,
  }),
})
