import { rm } from 'node:fs/promises'
import { JsonlFile, scanJsonl } from '../caption/jsonl-output.ts'
import { UsageError } from '../errors.ts'

/** Results of a calibration so far, in a file from which an interrupted run resumes. */
export interface CalibrationState {
  /** True when results of an earlier run were found. */
  readonly resumed: boolean
  /** Returns the result under a key, or computes and stores it. */
  recall<T>(key: string, make: () => Promise<T>): Promise<T>
  has(key: string): boolean
  close(): Promise<void>
  /** Closes and removes the file. */
  remove(): Promise<void>
}

type Entry = { key: string; value: unknown }

/**
 * Opens the state of a calibration. Results under another fingerprint are dropped.
 * @param fingerprint of everything that results depend on
 * @throws UsageError for a file that is not a calibration state; it stays unchanged
 */
export async function openCalibrationState(path: string, fingerprint: string): Promise<CalibrationState> {
  const known = new Map<string, unknown>()
  const keepBytes = await scan(path, fingerprint, known)
  const file = new JsonlFile<object>(path, keepBytes)
  await file.open()
  if (keepBytes === 0) await file.append({ calibration: fingerprint })
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
      await rm(path)
    },
  }
}

/** Fills `known`. @returns the bytes to keep: none of another calibration */
async function scan(path: string, fingerprint: string, known: Map<string, unknown>): Promise<number> {
  let ours = false
  try {
    const end = await scanJsonl(path, (line, number) => {
      if (number === 1) ours = fingerprintOf(line) === fingerprint
      else if (ours) {
        const { key, value } = line as Entry
        known.set(key, value)
      }
    })
    return ours ? end : 0
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    throw new UsageError(`${path} is not a calibration state. Choose another file with --state.`, {
      cause: error,
    })
  }
}

function fingerprintOf(line: object): unknown {
  if ('calibration' in line) return line.calibration
  throw new UsageError('The first line has no fingerprint.')
}
