import { createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Writable } from 'node:stream'
import { LineSplitter } from '../../../edge/contract/lines.ts'
import { UsageError } from '../errors.ts'

/** Where lines go. Lines are there, whole, when `append` resolves. */
export interface JsonlOutput<T extends object> {
  append(value: T): Promise<void>
  close(): Promise<void>
}

/**
 * Reads what an earlier run left in a JSONL file: `visit` gets every whole line's value, and may throw to refuse
 * the file. Changes nothing.
 * @returns the bytes up to which the file is whole; a last line that a crash cut off does not count.
 * @throws UsageError when the file is not JSONL; it may be somebody's work, and stays as it is.
 */
export async function scanJsonl(
  path: string,
  visit: (value: object, lineNumber: number) => void,
): Promise<number> {
  // A crash can cut a character as well as a line.
  const splitter = new LineSplitter({ maxBytes: Number.POSITIVE_INFINITY, fatal: false })
  let bytes = 0
  try {
    for await (const chunk of createReadStream(path))
      for (const { text, number, end } of splitter.push(chunk)) {
        const value = parseObject(text!)
        if (value === undefined) throw notJsonl(path, number)
        visit(value, number)
        bytes = end
      }
    for (const { text, number } of splitter.end()) if (!isObject.test(text!)) throw notJsonl(path, number)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
  return bytes
}

const notJsonl = (path: string, line: number) =>
  new UsageError(
    `${path} is not an output of this command (line ${line}). Choose another file, or --overwrite it.`,
  )

/** With a byte order mark, where an editor put one. */
const isObject = /^\uFEFF?\{/

/** Undefined when the text cannot be a line of ours. */
function parseObject(text: string): object | undefined {
  if (!isObject.test(text)) return undefined
  try {
    return JSON.parse(text.trim())
  } catch {
    return undefined
  }
}

/**
 * A JSONL file that lines are appended to. It is created, or cut to its first `keepBytes`, at the first line or by
 * `open`. A line is in the hands of the operating system when `append` resolves, so killing the process loses at
 * most the line being written.
 */
export class JsonlFile<T extends object> implements JsonlOutput<T> {
  readonly #path: string
  readonly #keepBytes: number
  #file: Promise<FileHandle> | undefined

  constructor(path: string, keepBytes: number) {
    this.#path = path
    this.#keepBytes = keepBytes
  }

  async open(): Promise<FileHandle> {
    this.#file ??= openForAppend(this.#path, this.#keepBytes)
    return this.#file
  }

  async append(value: T): Promise<void> {
    const file = await this.open()
    await file.appendFile(`${JSON.stringify(value)}\n`)
  }

  async close(): Promise<void> {
    const file = await this.#file
    await file?.sync()
    await file?.close()
  }
}

async function openForAppend(path: string, keepBytes: number): Promise<FileHandle> {
  await mkdir(dirname(path), { recursive: true })
  const file = await open(path, 'a')
  try {
    await file.truncate(keepBytes)
  } catch (error) {
    await file.close()
    throw error
  }
  return file
}

/** Lines to a stream that is not ours to close, e.g. standard output; a slow reader holds the lines back. */
export function streamOutput<T extends object>(stream: Writable): JsonlOutput<T> {
  // A reader that went away fails the write as well; without a listener it would end the process besides.
  stream.on('error', () => {})
  return {
    append: (value) =>
      new Promise((resolve, reject) => {
        stream.write(`${JSON.stringify(value)}\n`, (error) => (error ? reject(error) : resolve()))
      }),
    close: async () => {},
  }
}
