import { isUtf8 } from 'node:buffer'

const firstEscape = 0xdc00
const maxCharacterBytes = 4

/**
 * Decodes the name of a file. Bytes that are not UTF-8, as in names of old archives, become lone surrogates, as Python's
 * `os.fsdecode` has it: names stay apart, JSON writes them as `\udce9`, and `encodeFileName` gives the same bytes again.
 */
export function decodeFileName(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString()
  let name = ''
  for (let at = 0; at < bytes.length; ) {
    const character = characterAt(bytes, at)
    name += character?.toString() ?? String.fromCharCode(firstEscape + bytes[at]!)
    at += character?.length ?? 1
  }
  return name
}

function characterAt(bytes: Buffer, at: number): Buffer | undefined {
  for (let length = 1; length <= maxCharacterBytes; length++) {
    const character = bytes.subarray(at, at + length)
    if (isUtf8(character)) return character
  }
  return undefined
}

/** Encodes a path of decoded names for the functions of `node:fs`. */
export function encodeFileName(path: string): string | Buffer {
  if (path.isWellFormed()) return path
  return Buffer.concat(
    Array.from(path, (character) =>
      character.isWellFormed()
        ? Buffer.from(character)
        : Buffer.from([(character.charCodeAt(0) - firstEscape) & 0xff]),
    ),
  )
}
