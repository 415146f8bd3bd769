import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Child,
  childBytes,
  compareChildren,
  folderPath,
  fromBytes,
  parseName,
  toBytes,
} from './key-path.ts'
import { ifExists } from './object-file.ts'

/** A key and the file that holds its object. */
export interface ListedKey {
  key: string
  path: string
}

/** In bytes, as of `toBytes`. */
interface Bounds {
  prefix: string
  after: string
}

/**
 * Lists the keys in a store's folder that begin with `prefix` and sort after `after`, in the order of their bytes.
 * Reads only folders that can hold such keys; each page of a listing reads its folders again.
 */
export function listKeys(root: string, prefix: string, after: string): AsyncGenerator<ListedKey> {
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  const bounds = { prefix: toBytes(prefix), after: toBytes(after) }
  return walk(join(root, ...folderPath(folder)), toBytes(folder), bounds)
}

async function* walk(path: string, base: string, bounds: Bounds): AsyncGenerator<ListedKey> {
  for (const child of await readChildren(path)) {
    const bytes = base + childBytes(child)
    const childPath = join(path, child.name)
    if (child.kind !== 'object') {
      if (mayHold(bytes, bounds)) yield* walk(childPath, bytes, bounds)
    } else if (bytes.startsWith(bounds.prefix) && bytes > bounds.after) {
      yield { key: fromBytes(bytes), path: childPath }
    }
  }
}

/** Checks that keys beginning with `bytes` can match the prefix and sort after `after`. */
function mayHold(bytes: string, { prefix, after }: Bounds): boolean {
  const matches = bytes.startsWith(prefix) || prefix.startsWith(bytes)
  return matches && (bytes > after || after.startsWith(bytes))
}

const missingCodes = ['ENOENT', 'ENOTDIR', 'ENAMETOOLONG']

async function readChildren(path: string): Promise<Child[]> {
  const entries = await ifExists(readdir(path, { withFileTypes: true }), missingCodes)
  return (entries ?? [])
    .map((entry) => ({ entry, child: parseName(entry.name) }))
    .filter(({ entry, child }) => child && entry.isDirectory() === (child.kind !== 'object'))
    .map(({ child }) => child!)
    .sort(compareChildren)
}
