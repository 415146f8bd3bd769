import type { FinishReason, Pruning } from '../../../edge/contract/caption.ts'
import { FingerprintSet } from '../../../infra/fingerprint-set.ts'
import { UsageError } from '../errors.ts'
import { scanJsonl } from './jsonl-output.ts'

/** State of an earlier run of the same command. */
export interface EarlierRun {
  /** Finished entries. */
  done: FingerprintSet
  captions: number
  failures: number
  /** Model of the captions; absent without captions. */
  model?: string
  /** Bytes of each file up to its last whole line. */
  outBytes: number
  errorsBytes: number
}

/** Identity of an entry: an image with two ids or two prompts is two entries. */
export const entryKey = (entry: { image: string; customId?: string; prompt?: string }) =>
  JSON.stringify([entry.image, entry.customId ?? null, ...(entry.prompt === undefined ? [] : [entry.prompt])])

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
  const run: EarlierRun = { done, captions: 0, failures: 0, outBytes: 0, errorsBytes: 0 }
  const { out, errors, retryErrors = false } = files
  if (out !== undefined)
    run.outBytes = await scanJsonl(out, (value, lineNumber) => {
      const { image, custom_id: customId, prompt, turbine } = value as Partial<OutputLine>
      if (typeof image !== 'string' || typeof turbine?.model !== 'string')
        throw notOurs(out, lineNumber, 'has no "image" or no "turbine.model"')
      run.model ??= turbine.model
      if (run.model !== turbine.model)
        throw notOurs(out, lineNumber, `is from model ${turbine.model}, earlier ones are from ${run.model}`)
      run.captions++
      run.done.add(entryKey({ image, customId, prompt }))
    })
  if (errors !== undefined)
    run.errorsBytes = await scanJsonl(errors, (value, lineNumber) => {
      const { image, custom_id: customId, prompt, error } = value as Partial<FailureLine>
      if (typeof image !== 'string' || error === undefined)
        throw notOurs(errors, lineNumber, 'has no "image" or no "error"')
      run.failures++
      if (!retryErrors) run.done.add(entryKey({ image, customId, prompt }))
    })
  return run
}

/** Line of the output. */
export interface OutputLine {
  custom_id?: string
  image: string
  prompt?: string
  caption: string
  finish_reason: FinishReason
  turbine: Omit<Pruning, 'output_tokens'>
}

/** Line of the error file. */
export interface FailureLine {
  custom_id?: string
  image: string
  prompt?: string
  error: { code: string; message: string }
}

const notOurs = (path: string, line: number, problem: string) =>
  new UsageError(`Line ${line} of ${path} ${problem}. Choose another file, or --overwrite it.`)
