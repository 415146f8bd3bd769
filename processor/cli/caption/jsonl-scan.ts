import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { LineSplitter } from '../../../edge/contract/lines.ts'
import { UsageError } from '../errors.ts'

/** Longest line of an output: names and captions are short, and data addresses are named by their hash. */
const maxOutputLineBytes = 16 * 1024 * 1024

/** Bytes `[start, end)` of a file, in whole lines from number `line`. */
export interface FilePart {
  start: number
  end: number
  line: number
  lines: number
}

/** What is left of a JSONL file of an earlier run. */
export interface ScannedJsonl {
  /** Bytes up to the end of the last good line. */
  end: number
  /** The last good line lacks its line end. */
  unended: boolean
  /** Parts before `end` that are no lines of the file's kind. */
  damaged: FilePart[]
  /** What follows `end`, and is more than a line that a crash cut off, or the zeros of a power failure. */
  tail?: FilePart
}

export const nothingScanned: ScannedJsonl = { end: 0, unended: false, damaged: [] }

/** Kind of a JSONL file. */
export interface JsonlKind {
  /** How a line can begin; half a line may be less. */
  starts: readonly string[]
  /** Receives each line. @throws ForeignLineError for one of another kind; any other error rejects the file */
  visit(value: object, lineNumber: number): void
}

/** Line of another kind of file, or damaged. */
export class ForeignLineError extends Error {}

/**
 * Reads a JSONL file of an earlier run. Crashes, power failures and editors leave it the run's: what they damaged is found,
 * and the file stays unchanged.
 * @throws UsageError when it is a file of another kind; what `visit` throws
 */
export async function scanJsonl(path: string, kind: JsonlKind): Promise<ScannedJsonl> {
  try {
    return await scan(path, kind)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return nothingScanned
    throw error
  }
}

async function scan(path: string, kind: JsonlKind): Promise<ScannedJsonl> {
  const splitter = new LineSplitter({ maxBytes: maxOutputLineBytes })
  const found: ScannedJsonl = { end: 0, unended: false, damaged: [] }
  const bad: FilePart[] = []
  let good = 0
  let reason: unknown
  const take = ({
    text,
    number,
    start,
    end,
  }: {
    text?: string
    number: number
    start: number
    end: number
  }) => {
    try {
      if (text === undefined) throw new ForeignLineError('is no text')
      if (text.trim() !== '') {
        kind.visit(parseObject(text), number)
        good++
      }
      found.end = end
      return true
    } catch (error) {
      if (!(error instanceof ForeignLineError)) throw error
      reason ??= error
      addPart(bad, { start, end, line: number, lines: 1 })
      return false
    }
  }
  for await (const chunk of createReadStream(path)) for (const line of splitter.push(chunk)) take(line)
  const last = splitter.end().at(-1)
  if (last) found.unended = take(last)
  found.damaged = bad.filter(({ end }) => end <= found.end)
  const tail = bad.find(({ end }) => end > found.end)
  const isTorn = tail && last && tail.lines === 1 && !found.unended && (await isCutOff(path, tail, kind))
  const badLines = bad.reduce((lines, part) => lines + part.lines, isTorn ? -1 : 0)
  const first = bad[0]?.start === 0 ? 'bad' : 'good'
  if (badLines > 0 && (good === 0 || (first === 'bad' && badLines > good)))
    throw notOurs(path, bad[0]!.line, reason)
  return tail && !isTorn ? { ...found, tail } : found
}

const notOurs = (path: string, line: number, reason: unknown) =>
  new UsageError(
    `${path} is not an output of this command (line ${line} ${(reason as Error).message}). Choose another file; this one stays as it is.`,
    { cause: reason },
  )

function addPart(parts: FilePart[], part: FilePart): void {
  const before = parts.at(-1)
  if (before?.end !== part.start) parts.push(part)
  else {
    before.end = part.end
    before.lines++
  }
}

/** Allows for the byte order mark of an editor. */
function parseObject(text: string): object {
  const trimmed = text.trim()
  try {
    const value: unknown = trimmed.startsWith('{') ? JSON.parse(trimmed) : undefined
    if (typeof value === 'object' && value !== null) return value
  } catch {
    // As for any other text.
  }
  throw new ForeignLineError('is no object of JSON')
}

/** Tests for half a line of the kind, or nothing but zeros. Whole lines are neither, whatever they are of. */
async function isCutOff(path: string, { start, end }: FilePart, { starts }: JsonlKind): Promise<boolean> {
  const most = 64
  const head = await readPart(path, start, Math.min(end, start + most))
  const text = head.toString('latin1').replace(/^ï»¿/, '').replace(/\0+$/, '')
  if (text === '') return isZeros(path, start)
  if (end - start > maxOutputLineBytes) return false
  const isHalf = starts.some((begin) => text.startsWith(begin) || begin.startsWith(text))
  return isHalf && !(await isObject(path, start, end))
}

/** A line without its end can be a whole one, of another kind of file. */
async function isObject(path: string, start: number, end: number): Promise<boolean> {
  try {
    parseObject((await readPart(path, start, end)).toString())
    return true
  } catch {
    return false
  }
}

async function readPart(path: string, start: number, end: number): Promise<Buffer> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(end - start), 0, end - start, start)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

async function isZeros(path: string, start: number): Promise<boolean> {
  for await (const chunk of createReadStream(path, { start }))
    if ((chunk as Buffer).some((byte) => byte !== 0)) return false
  return true
}
