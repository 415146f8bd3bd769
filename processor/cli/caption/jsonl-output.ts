import { createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Writable } from 'node:stream'
import { LineSplitter } from '../../../edge/contract/lines.ts'
import { escapeControls } from '../../../infra/telemetry/escape-controls.ts'
import { UsageError } from '../errors.ts'

/** Longest line of an output: names and captions are short, and data addresses are named by their hash. */
const maxOutputLineBytes = 16 * 1024 * 1024

/** Output of JSON lines. A line is complete when `append` resolves. */
export interface JsonlOutput<T extends object> {
  append(value: T): Promise<void>
  close(): Promise<void>
}

/**
 * Reads a JSONL file of an earlier run: `visit` receives the value of each complete line, and may throw to reject the file.
 * @returns the bytes of all complete lines: a crash can truncate the last one
 * @throws UsageError when the file is not JSONL; it stays unchanged
 */
export async function scanJsonl(
  path: string,
  visit: (value: object, lineNumber: number) => void,
): Promise<number> {
  // A crash can truncate a character as well as a line.
  const splitter = new LineSplitter({ maxBytes: maxOutputLineBytes, fatal: false })
  let bytes = 0
  try {
    for await (const chunk of createReadStream(path))
      for (const { text, number, end } of splitter.push(chunk)) {
        const value = text === undefined ? undefined : parseObject(text)
        if (value === undefined) throw notJsonl(path, number)
        visit(value, number)
        bytes = end
      }
    for (const { text = '', number } of splitter.end()) if (!isObject.test(text)) throw notJsonl(path, number)
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

/** Allows for the byte order mark of an editor. */
const isObject = /^\uFEFF?\{/

function parseObject(text: string): object | undefined {
  if (!isObject.test(text)) return undefined
  try {
    return JSON.parse(text.trim())
  } catch {
    return undefined
  }
}

/**
 * JSONL file to append to. It is created, or truncated to `keepBytes`, by the first line or by `open`. Killing the process
 * loses at most the line being written.
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

/** Writes lines to a stream that stays open, e.g. standard output, with back pressure. */
export function streamOutput<T extends object>(stream: Writable): JsonlOutput<T> {
  // A closed pipe also fails the write; without a listener it would crash the process.
  stream.on('error', () => {})
  return {
    append: (value) =>
      new Promise((resolve, reject) => {
        stream.write(`${escapeControls(JSON.stringify(value))}\n`, (error) =>
          error ? reject(error) : resolve(),
        )
      }),
    close: async () => {},
  }
}
