import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { DataFileError } from './data-file-error.ts'

export type Values = ArrayLike<unknown>

/** Consecutive rows of a file. */
export interface RowBatch {
  /** Number of the first row, from 0. */
  start: number
  count: number
  /** By name, in the order of the file. */
  columns: ReadonlyMap<string, Values>
}

export interface BatchOptions {
  /** Default: all. */
  columns?: readonly string[]
  /** Number of the first row, from 0. */
  from?: number
  /** Values as they are stored, for `ParquetOutput`: text as bytes, times as numbers. Default: as JavaScript has them. */
  stored?: boolean
  /** Time for the next rows, ms; default: a minute. */
  limitMs?: number
}

/** What the thread is given. */
export interface BatchesAsk {
  path: string
  options: BatchOptions
}

/** What it answers to each request for the next rows. */
export type BatchAnswer = { batch: RowBatch } | { end: true } | { fault: string } | { error: unknown }

/** Memory of the thread, and time for one batch: of what a page says in a few bytes it can make billions of values. */
const maxOldGenerationSizeMb = 512
const defaultLimitMs = 60_000

/** Yields the rows of a Parquet file as `ParquetFile.batches` does. */
export async function* threadBatches(
  path: string,
  { limitMs = defaultLimitMs, ...options }: BatchOptions,
): AsyncGenerator<RowBatch> {
  const ask: BatchesAsk = { path, options }
  const worker = new Worker(new URL('./parquet-thread.ts', import.meta.url), {
    workerData: ask,
    resourceLimits: { maxOldGenerationSizeMb, maxYoungGenerationSizeMb: 8 },
  })
  const next = () => {
    worker.postMessage('next')
    const answer = answerOf(worker, path, limitMs)
    // It is awaited behind the batch before.
    answer.catch(() => {})
    return answer
  }
  try {
    for (let ahead = next(); ; ) {
      const answer = await ahead
      if ('fault' in answer) throw new DataFileError(answer.fault)
      if ('error' in answer) throw answer.error
      if ('end' in answer) return
      ahead = next()
      yield answer.batch
    }
  } finally {
    await worker.terminate()
  }
}

async function answerOf(worker: Worker, path: string, limitMs: number): Promise<BatchAnswer> {
  const late = AbortSignal.timeout(limitMs)
  try {
    const [answer] = (await once(worker, 'message', { signal: late })) as [BatchAnswer]
    return answer
  } catch (error) {
    const isLarge = (error as { code?: unknown }).code === 'ERR_WORKER_OUT_OF_MEMORY'
    if (!isLarge && !late.aborted) throw error
    const what = isLarge ? 'needs too much memory' : `takes more than ${limitMs / 1000} s`
    throw new DataFileError(`${path} is damaged: a part of it ${what} to read.`, { cause: error })
  }
}
