/**
 * Keys as paths of a file system, such that every legal key fits and keys never collide:
 *
 * - Bytes other than `a-z 0-9 . _ -` are written `%xx`, upper case too, because file systems that fold case or
 *   normalise Unicode would take two keys for one. A leading dot is escaped, so no name is `.`, `..` or hidden.
 * - An object's name ends in `@`, so the object `a` and the folder of `a/b` do not collide.
 * - A segment of more than 80 bytes is cut into pieces, folders in folders, because names are limited to 255
 *   bytes. A piece that continues ends in `,` when the next byte sorts before `/`, else in `~`; so the keys of each
 *   folder are an unbroken run in the order of keys.
 *
 * Bytes are held in strings with one character per byte: these compare as the bytes do.
 */
const pieceBytes = 80

/** Meaning of a name in a folder: an object, a whole segment, or the beginning of a longer segment. */
export interface Child {
  name: string
  /** The bytes of the segment or piece. */
  bytes: string
  kind: 'object' | 'folder' | 'longer before /' | 'longer after /'
}

/** `café` -> one character per byte of its UTF-8. */
export function toBytes(key: string): string {
  return Buffer.from(key, 'utf8').toString('latin1')
}

export function fromBytes(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8')
}

/** The file of a key, as the names of its folders and, last, its own. */
export function objectPath(key: string): string[] {
  const path = folderPath(key)
  return [...path.slice(0, -1), `${path.at(-1)!}@`]
}

/** The folder that holds all keys that begin with `prefix/`; empty for the empty prefix. */
export function folderPath(prefix: string): string[] {
  return toBytes(prefix)
    .split('/')
    .filter((segment) => segment !== '')
    .flatMap(segmentNames)
}

function segmentNames(segment: string): string[] {
  const names: string[] = []
  let rest = segment
  for (; rest.length > pieceBytes; rest = rest.slice(pieceBytes))
    names.push(escapeBytes(rest.slice(0, pieceBytes)) + (rest[pieceBytes]! < '/' ? ',' : '~'))
  return [...names, escapeBytes(rest)]
}

function escapeBytes(bytes: string): string {
  return bytes.replace(/^\.|[^a-z0-9._-]/gs, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

const kinds = { '@': 'object', ',': 'longer before /', '~': 'longer after /' } as const

/** Parses a name; undefined when the store did not write it. */
export function parseName(name: string): Child | undefined {
  const [, escaped, mark] = /^((?:[a-z0-9_.-]|%[0-9a-f]{2})+)([@,~]?)$/.exec(name) ?? []
  if (escaped === undefined) return undefined
  const bytes = escaped.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
  return { name, bytes, kind: mark ? kinds[mark as keyof typeof kinds] : 'folder' }
}

/** Bytes that every key below the child continues with. */
export function childBytes({ bytes, kind }: Child): string {
  return kind === 'folder' ? `${bytes}/` : bytes
}

const kindOrder: Child['kind'][] = ['object', 'longer before /', 'folder', 'longer after /']

/** The order of the keys below the children of one folder. */
export function compareChildren(a: Child, b: Child): number {
  if (a.bytes === b.bytes) return kindOrder.indexOf(a.kind) - kindOrder.indexOf(b.kind)
  return childBytes(a) < childBytes(b) ? -1 : 1
}
