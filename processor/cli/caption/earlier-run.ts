import { createReadStream, createWriteStream } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import type { Choice, FinishReason, Pruning } from '../../../edge/contract/caption.ts'
import { readLines } from '../../../edge/contract/lines.ts'
import { FingerprintSet } from '../../../infra/fingerprint-set.ts'
import { UsageError } from '../errors.ts'
import { replaceFile } from '../replace-file.ts'
import { ForeignLineError, nothingScanned, type ScannedJsonl, scanJsonl } from './jsonl-scan.ts'

/** State of an earlier run of the same command. */
export interface EarlierRun {
  /** Finished entries. */
  done: FingerprintSet
  captions: number
  failures: number
  /** Model of the captions; absent without captions. */
  model?: string
  /** What is in each file. */
  out: ScannedJsonl
  errors: ScannedJsonl
}

export interface EntryName {
  image: string
  customId?: string
  prompt?: string
  /** Of a row that has columns, or of a sample. */
  row?: string
  /** Digest of what it is asked beside its own prompt; absent where that is nothing. */
  asked?: string
}

/** Identity of an entry: its row, or its image; an image with two ids, two prompts or, without an id, asked in two ways is two entries. */
export const entryKey = ({ image, customId, prompt, row, asked }: EntryName) => {
  if (row !== undefined) return row
  const by = customId === undefined && asked !== undefined ? { asked } : undefined
  return JSON.stringify([
    image,
    customId ?? null,
    ...(prompt === undefined ? [] : [prompt]),
    ...(by ? [by] : []),
  ])
}

/** How lines of either file begin. */
const starts = ['{"custom_id":', '{"image":']

/**
 * Reads the output and the errors of an earlier run. With `retryErrors` failures do not count as done.
 * @throws UsageError when a file is not from this command or mixes models
 */
export async function readEarlierRun(files: {
  out?: string
  errors?: string
  retryErrors?: boolean
}): Promise<EarlierRun> {
  const done = new FingerprintSet(3)
  const run: EarlierRun = { done, captions: 0, failures: 0, out: nothingScanned, errors: nothingScanned }
  const { out, errors, retryErrors = false } = files
  if (out !== undefined)
    run.out = await scanJsonl(out, {
      starts,
      visit(value, lineNumber) {
        const { model, ...entry } = readOutputLine(value)
        run.model ??= model
        if (run.model !== model) throw mixed(out, lineNumber, model, run.model)
        run.captions++
        run.done.add(entryKey(entry))
      },
    })
  if (errors !== undefined)
    run.errors = await scanJsonl(errors, {
      starts,
      visit(value) {
        const entry = readFailureLine(value)
        // One that was tried again, and has its caption, is none.
        if (retryErrors || run.done.add(entryKey(entry))) run.failures++
      },
    })
  return run
}

/**
 * Removes from the error file the failures of earlier runs that this one has tried again.
 * @returns how many of them are left
 */
export async function dropRetried(path: string, { done, failures }: EarlierRun): Promise<number> {
  let number = 0
  let left = 0
  let written = 0
  async function* keptLines(): AsyncGenerator<string> {
    for await (const lines of readLines(createReadStream(path)))
      for (const { text = '' } of lines) {
        if (text.trim() === '') continue
        const isEarlier = ++number <= failures
        if (isEarlier && !done.add(entryKey(readFailureLine(JSON.parse(text.trim()))))) continue
        if (isEarlier) left++
        written++
        yield `${text}\n`
      }
  }
  if (!(await stat(path).catch(() => undefined))) return 0
  await replaceFile(path, (part) => pipeline(keptLines, createWriteStream(part)))
  if (written === 0) await rm(path)
  return left
}

/** Checks that a file is one that `--overwrite` may replace: of an earlier run, or empty. @throws UsageError */
export async function assertOutput(path: string, kind: 'out' | 'errors'): Promise<void> {
  const visit = kind === 'out' ? readOutputLine : readFailureLine
  await scanJsonl(path, { starts, visit })
}

function readOutputLine(value: object) {
  const { image, custom_id: customId, prompt, row, asked, turbine } = value as Partial<OutputLine>
  const model = turbine?.model
  if (typeof image !== 'string' || typeof model !== 'string')
    throw new ForeignLineError('has no "image" or no "turbine.model"')
  return { image, customId, prompt, row, asked, model }
}

function readFailureLine(value: object) {
  const { image, custom_id: customId, prompt, row, asked, error } = value as Partial<FailureLine>
  if (typeof image !== 'string' || error === undefined)
    throw new ForeignLineError('has no "image" or no "error"')
  return { image, customId, prompt, row, asked }
}

/** Line of the output. */
export interface OutputLine {
  custom_id?: string
  image: string
  /** Of a row that has columns, or of a sample. */
  row?: string
  prompt?: string
  /** Digest of what the run or the line asks beside, e.g. `--max-tokens`; only of images without an id. */
  asked?: string
  /** What is kept of the row; in a file of JSON lines its fields lie beside the caption. */
  columns?: Record<string, unknown>
  caption: string
  finish_reason: FinishReason
  captions?: Choice[]
  turbine: Omit<Pruning, 'output_tokens'>
}

/** Line of the error file. */
export interface FailureLine {
  custom_id?: string
  image: string
  row?: string
  prompt?: string
  asked?: string
  error: { code: string; message: string }
}

const mixed = (path: string, line: number, model: string, earlier: string) =>
  new UsageError(
    `Line ${line} of ${path} is from model ${model}, earlier ones are from ${earlier}. Choose another --out; this file stays as it is.`,
  )
