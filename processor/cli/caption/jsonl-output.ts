import { createReadStream, createWriteStream } from 'node:fs'
import { type FileHandle, mkdir, open, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { jsonLine } from '../../../edge/contract/lines.ts'
import { escapeControls } from '../../../infra/telemetry/escape-controls.ts'
import { partFile } from '../replace-file.ts'
import { type FilePart, nothingScanned, type ScannedJsonl } from './jsonl-scan.ts'

/** Output of JSON lines. */
export interface JsonlOutput<T extends object> {
  /** Resolves when the line is written, behind those before it. Once it fails it fails for every line. */
  append(value: T): Promise<void>
  close(): Promise<void>
}

/** `replace`: a new file takes the place of what is there when the first line is written. */
export type JsonlStart = ScannedJsonl | 'replace'

/** What the damaged parts of an output are kept in. */
export const damagedFile = (path: string) => `${path}.damaged`

/**
 * JSONL file to append to, from where an earlier run left it. It is created, repaired or replaced by the first line or by
 * `open`. Killing the process loses at most the line being written.
 */
export class JsonlFile<T extends object> implements JsonlOutput<T> {
  readonly #path: string
  readonly #start: JsonlStart
  #file: Promise<FileHandle> | undefined
  /** Lines that wait for the write before theirs. */
  #waiting = ''
  #next: Promise<void> | undefined
  #last: Promise<void> = Promise.resolve()

  constructor(path: string, start: JsonlStart = nothingScanned) {
    this.#path = path
    this.#start = start
  }

  async open(): Promise<FileHandle> {
    this.#file ??= openForAppend(this.#path, this.#start)
    return this.#file
  }

  append(value: T): Promise<void> {
    this.#waiting += `${jsonLine(value)}\n`
    this.#next ??= this.#last = this.#last.then(() => this.#write())
    return this.#next
  }

  /** Writes all lines that came during the write before. */
  async #write(): Promise<void> {
    const file = await this.open()
    const lines = this.#waiting
    this.#waiting = ''
    this.#next = undefined
    await file.appendFile(lines)
  }

  async close(): Promise<void> {
    // Whoever appended was told.
    await this.#last.catch(() => {})
    const file = await this.#file
    await file?.sync()
    await file?.close()
  }
}

async function openForAppend(given: string, start: JsonlStart): Promise<FileHandle> {
  await mkdir(dirname(given), { recursive: true })
  // A link stays one.
  const path = await realpath(given).catch(() => given)
  if (start === 'replace') return replace(path, async () => {})
  const { damaged, tail, unended, end } = start
  await keepDamaged(path, tail ? [...damaged, tail] : damaged)
  if (damaged.length > 0)
    return replace(path, (file) => copyParts(path, goodParts(damaged, end), file, unended))
  const file = await open(path, 'a')
  try {
    if ((await file.stat()).size > end) await file.truncate(end)
    if (unended) await file.appendFile('\n')
  } catch (error) {
    await file.close()
    throw error
  }
  return file
}

/** Puts a new file in the place of one, with its content. */
async function replace(path: string, write: (part: string) => Promise<void>): Promise<FileHandle> {
  const part = partFile(path)
  const mode = (await stat(path).catch(() => undefined))?.mode
  const file = await open(part, 'ax', mode)
  try {
    await write(part)
    await file.sync()
    await rename(part, path)
  } catch (error) {
    await file.close()
    await rm(part, { force: true })
    throw error
  }
  return file
}

function* goodParts(damaged: readonly FilePart[], end: number): Generator<Pick<FilePart, 'start' | 'end'>> {
  let start = 0
  for (const part of damaged) {
    if (part.start > start) yield { start, end: part.start }
    start = part.end
  }
  if (end > start) yield { start, end }
}

async function copyParts(
  from: string,
  parts: Iterable<Pick<FilePart, 'start' | 'end'>>,
  to: string,
  unended: boolean,
): Promise<void> {
  for (const { start, end } of parts)
    await pipeline(createReadStream(from, { start, end: end - 1 }), createWriteStream(to, { flags: 'a' }))
  if (unended) await pipeline(['\n'], createWriteStream(to, { flags: 'a' }))
}

async function keepDamaged(path: string, parts: readonly FilePart[]): Promise<void> {
  if (parts.length === 0) return
  await copyParts(path, parts, damagedFile(path), false)
  const kept = await open(damagedFile(path), 'r+')
  await kept.sync().finally(() => kept.close())
}

/** Writes lines to a stream that stays open, e.g. standard output, with back pressure. */
export function streamOutput<T extends object>(stream: Writable): JsonlOutput<T> {
  // A closed pipe also fails the write; without a listener it would crash the process.
  stream.on('error', () => {})
  return {
    append: (value) =>
      new Promise((resolve, reject) => {
        stream.write(`${escapeControls(jsonLine(value))}\n`, (error) => (error ? reject(error) : resolve()))
      }),
    close: async () => {},
  }
}

/** Writes lines to a named pipe, and waits for its reader. */
export function pipeOutput<T extends object>(path: string): JsonlOutput<T> {
  const stream = createWriteStream(path, { flags: 'w' })
  const { append } = streamOutput<T>(stream)
  return {
    append,
    close: () => new Promise((resolve) => stream.end(() => resolve())),
  }
}
