import { hash } from 'node:crypto'
import { UsageError } from '../errors.ts'
import { scanJsonl } from './jsonl-output.ts'

/** What an earlier run of the same command left behind. */
export interface EarlierRun {
  /** Images that need no work any more. */
  done: Fingerprints
  captions: number
  failures: number
  /** The model that captioned; absent when there are no captions yet. */
  model?: string
  /** Bytes of each file up to its last whole line. */
  outBytes: number
  errorsBytes: number
}

/** What tells one entry from another: an image that is listed under two ids is two entries. */
export const entryKey = (entry: { image: string; customId?: string }) =>
  JSON.stringify([entry.image, entry.customId ?? null])

/**
 * Reads the output and the errors of an earlier run, line by line. Without `out` (standard output) there was none.
 * With `retryErrors` its failures do not count as done.
 * @throws UsageError when a file is not from this command or mixes models.
 */
export async function readEarlierRun(files: {
  out?: string
  errors?: string
  retryErrors?: boolean
}): Promise<EarlierRun> {
  const run: EarlierRun = { done: new Fingerprints(), captions: 0, failures: 0, outBytes: 0, errorsBytes: 0 }
  const { out, errors, retryErrors = false } = files
  if (out !== undefined)
    run.outBytes = await scanJsonl(out, (value, lineNumber) => {
      const { image, custom_id: customId, turbine } = value as Partial<OutputLine>
      if (typeof image !== 'string' || typeof turbine?.model !== 'string')
        throw notOurs(out, lineNumber, 'has no "image" or no "turbine.model"')
      run.model ??= turbine.model
      if (run.model !== turbine.model)
        throw notOurs(out, lineNumber, `is from model ${turbine.model}, earlier ones are from ${run.model}`)
      run.captions++
      run.done.add(entryKey({ image, customId }))
    })
  if (errors !== undefined)
    run.errorsBytes = await scanJsonl(errors, (value, lineNumber) => {
      const { image, custom_id: customId, error } = value as Partial<ErrorLine>
      if (typeof image !== 'string' || error === undefined)
        throw notOurs(errors, lineNumber, 'has no "image" or no "error"')
      run.failures++
      if (!retryErrors) run.done.add(entryKey({ image, customId }))
    })
  return run
}

/** A line of the output. */
export interface OutputLine {
  custom_id?: string
  image: string
  caption: string
  turbine: {
    prune_level: number
    prune_ratio: number
    tokens_in: number
    tokens_out: number
    queue_ms: number
    inference_ms: number
    model: string
  }
}

/** A line of the error file. */
export interface ErrorLine {
  custom_id?: string
  image: string
  error: { code: string; message: string }
}

const notOurs = (path: string, line: number, problem: string) =>
  new UsageError(`Line ${line} of ${path} ${problem}. Choose another file, or --overwrite it.`)

/** 32-bit words per fingerprint: with 96 bits, any two of 100 million texts meet with a chance of 1 in 10^12. */
const wordsPerPrint = 3

/**
 * A set that remembers texts by a 96-bit hash in one flat table: 16 to 32 bytes for each, whatever their length,
 * and no limit at 16 million as a `Set` has.
 */
export class Fingerprints {
  #size = 0
  #table: Uint32Array

  /** `slots` is a power of two. */
  constructor(slots = 1024) {
    this.#table = new Uint32Array(slots * wordsPerPrint)
  }

  get size(): number {
    return this.#size
  }

  /** Adds a text; false when it was there already. */
  add(text: string): boolean {
    if ((this.#size + 1) * wordsPerPrint > this.#table.length * 0.75) this.#grow()
    const added = insert(this.#table, fingerprint(text))
    if (added) this.#size++
    return added
  }

  #grow(): void {
    const old = this.#table
    this.#table = new Uint32Array(old.length * 2)
    for (let at = 0; at < old.length; at += wordsPerPrint)
      if (isTaken(old, at)) insert(this.#table, old.subarray(at, at + wordsPerPrint))
  }
}

/** Never all zeros, which marks an empty slot. */
function fingerprint(text: string): Uint32Array {
  const digest = hash('sha256', text, 'buffer')
  const print = new Uint32Array(wordsPerPrint)
  for (let i = 0; i < wordsPerPrint; i++) print[i] = digest.readUInt32LE(i * 4)
  print[0]! |= 1
  return print
}

/** Linear probing; the table is never full. */
function insert(table: Uint32Array, print: Uint32Array): boolean {
  const slots = table.length / wordsPerPrint
  let slot = print[1]! & (slots - 1)
  while (isTaken(table, slot * wordsPerPrint)) {
    const at = slot * wordsPerPrint
    if (print.every((word, i) => table[at + i] === word)) return false
    slot = (slot + 1) & (slots - 1)
  }
  table.set(print, slot * wordsPerPrint)
  return true
}

const isTaken = (table: Uint32Array, at: number) => table[at] !== 0
