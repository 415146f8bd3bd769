import { rm } from 'node:fs/promises'
import { JsonlFile } from '../caption/jsonl-output.ts'
import { ForeignLineError, scanJsonl } from '../caption/jsonl-scan.ts'
import { UsageError } from '../errors.ts'

/** Results of a calibration so far, in a file from which an interrupted run resumes. */
export interface CalibrationState {
  /** True when results of an earlier run were found. */
  readonly resumed: boolean
  /** Returns the result under a key, or computes and stores it. */
  recall<T>(key: string, make: () => Promise<T>): Promise<T>
  has(key: string): boolean
  close(): Promise<void>
  /** Closes and removes the file, unless another calibration has results in it. */
  remove(): Promise<void>
}

type Entry = { key: string; value: unknown }

/**
 * Opens the state of a calibration. Results under another fingerprint stay in the file, for when that one goes on.
 * @param fingerprint of everything that results depend on
 * @throws UsageError for a file that is not a calibration state; it stays unchanged
 */
export async function openCalibrationState(path: string, fingerprint: string): Promise<CalibrationState> {
  const known = new Map<string, unknown>()
  const { found, isOurs, hasOthers } = await scan(path, fingerprint, known)
  const file = new JsonlFile<object>(path, found)
  await file.open()
  if (!isOurs) await file.append({ calibration: fingerprint })
  return {
    resumed: known.size > 0,
    has: (key) => known.has(key),
    async recall<T>(key: string, make: () => Promise<T>): Promise<T> {
      // The fingerprint vouches for what is in the file.
      if (known.has(key)) return known.get(key) as T
      const value = await make()
      known.set(key, value)
      await file.append({ key, value } satisfies Entry)
      return value
    },
    close: () => file.close(),
    async remove() {
      await file.close()
      if (!hasOthers) await rm(path)
    },
  }
}

/** Fills `known`. `isOurs`: the file ends with results of this fingerprint. */
async function scan(path: string, fingerprint: string, known: Map<string, unknown>) {
  let section: unknown
  let hasOthers = false
  const visit = (line: object) => {
    if ('calibration' in line) section = line.calibration
    else if (section === undefined || !('key' in line)) throw new ForeignLineError('has no fingerprint')
    else if (section === fingerprint) known.set((line as Entry).key, (line as Entry).value)
    hasOthers ||= section !== fingerprint
  }
  try {
    const found = await scanJsonl(path, { starts: ['{"calibration":', '{"key":'], visit })
    return { found, isOurs: section === fingerprint, hasOthers }
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    throw new UsageError(`${path} is not a calibration state. Choose another file with --state.`, {
      cause: error,
    })
  }
}
