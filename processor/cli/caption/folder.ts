import type { Dirent } from 'node:fs'
import { glob, opendir, readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative, sep } from 'node:path'
import { TurbineError } from '../../../edge/contract/errors.ts'
import {
  countSkipped,
  headBytes,
  imageFormat,
  isHiddenName,
  kindOfName,
  type Skipped,
} from '../../../edge/contract/formats/file-kind.ts'
import { readFileHead } from '../../../infra/fetch/image-file.ts'
import { decodeFileName, encodeFileName } from '../../../infra/file-name.ts'
import type { Source } from './manifest.ts'

/** Output has forward slashes on every platform. */
export const fileSource = (path: string): Source => ({
  image: sep === '/' ? path : path.replaceAll(sep, '/'),
  location: path,
})

/**
 * Yields the images under a folder, depth first, and counts what is left out. Follows links, but not in circles. Only the
 * names of one folder are held in memory.
 */
export async function* walkFolder(
  folder: string,
  skipped: Skipped,
  ancestors: string[] = [],
): AsyncGenerator<Source> {
  let names: string[]
  let path: string
  try {
    path = decodeFileName(await realpath(encodeFileName(folder), { encoding: 'buffer' }))
    if (ancestors.includes(path)) return
    names = await listNames(folder, skipped)
  } catch (error) {
    yield unreadableFolder(folder, error)
    return
  }
  // Folder names end in "/", which gives the order of sorted paths.
  for (const name of names) {
    if (name.endsWith('/')) yield* walkFolder(join(folder, name.slice(0, -1)), skipped, [...ancestors, path])
    else yield fileSource(join(folder, name))
  }
}

/** Sorted names of a folder's images and sub-folders; the latter end in `/`. */
async function listNames(folder: string, skipped: Skipped): Promise<string[]> {
  const names: string[] = []
  for await (const entry of await openFolder(folder)) {
    const name = decodeFileName(entry.name)
    const path = join(folder, name)
    if (isHiddenName(name)) countSkipped(skipped, 'hidden')
    else if (await isFolder(entry, path)) names.push(`${name}/`)
    else if (await isImageFile(path, skipped)) names.push(name)
  }
  return names.sort()
}

/** The types of Node know no names as bytes here. */
const openFolder = async (folder: string) =>
  (await opendir(encodeFileName(folder) as string, {
    bufferSize: 256,
    encoding: 'buffer' as BufferEncoding,
  })) as unknown as AsyncIterable<Dirent<Buffer>>

const isFolder = async (entry: Dirent<Buffer>, path: string) =>
  entry.isDirectory() || (entry.isSymbolicLink() && (await isFolderAt(path)))

const isFolderAt = (path: string) =>
  stat(encodeFileName(path)).then(
    (found) => found.isDirectory(),
    () => false,
  )

/** Decides by the name where that tells, else by the first bytes. What cannot be read is taken, so that it is told. */
async function isImageFile(path: string, skipped: Skipped): Promise<boolean> {
  // A hidden one that came here was asked for.
  const kind = kindOfName(basename(path).replace(/^\./, ''))
  if (kind === 'image') return true
  if (kind === 'unknown') {
    const head = await readFileHead(path, headBytes).catch(() => 'unreadable' as const)
    if (head === 'unreadable' || (head && imageFormat(head))) return true
    if (head === undefined) {
      countSkipped(skipped, 'not_regular')
      return false
    }
  }
  countSkipped(skipped, 'not_image')
  return false
}

/** Yields the images that match a pattern, and those of the folders that do, sorted by name. */
export async function* expandGlob(pattern: string, skipped: Skipped): AsyncGenerator<Source> {
  const matches: { path: string; folder: boolean }[] = []
  for await (const entry of glob(pattern, { withFileTypes: true })) {
    const absolute = join(entry.parentPath, entry.name)
    const path = isAbsolute(pattern) ? absolute : relative('', absolute)
    const folder = entry.isDirectory()
    for (const named of await namesWithBytes(path)) matches.push({ path: named, folder })
  }
  for (const { path, folder } of matches.sort((a, b) => byCodeUnit(a.path, b.path))) {
    if (isHiddenMatch(path, pattern)) countSkipped(skipped, 'hidden')
    else if (folder) yield* walkFolder(path, skipped)
    else if (await isImageFile(path, skipped)) yield fileSource(path)
  }
}

/** Hidden names count as such unless the pattern has them, or a dot in their place: `.*`. */
function isHiddenMatch(path: string, pattern: string): boolean {
  const asked = pattern.split(sep)
  const isAsked = (name: string) =>
    asked.some((part) => part === name || (part.startsWith('.') && name.startsWith('.')))
  return path.split(sep).some((name) => isHiddenName(name) && !isAsked(name))
}

const byCodeUnit = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

/**
 * The files that a path means whose names came with replacement characters for bytes that are not UTF-8, as they do in
 * arguments and matches of a pattern. The path itself where there is none.
 */
export async function namesWithBytes(path: string): Promise<string[]> {
  if (!path.includes('\uFFFD')) return [path]
  const found: string[] = []
  for (const folder of await namesWithBytes(dirname(path))) {
    const names = await readdir(encodeFileName(folder), { encoding: 'buffer' }).catch(() => [])
    for (const name of names)
      if (name.toString() === basename(path)) found.push(join(folder, decodeFileName(name)))
  }
  return found.length > 0 ? found : [path]
}

const unreadableFolder = (folder: string, cause: unknown): Source => ({
  image: folder,
  error: new TurbineError(`The folder ${folder} cannot be read. Check its permissions.`, {
    status: 400,
    code: 'folder_unreadable',
    cause,
  }),
})
