import type { Tensor } from 'onnxruntime-node'
import type { FailedRows, MadeIds, PartTime, RowGroup, RowResult } from '../batch.ts'

/** Batch for a device's thread. */
export interface RunnerBatch extends RowGroup {
  /** Rows to run: those behind the batch's own are padding. */
  bucket: number
}

/** What a runner tells of a batch while it makes ids step by step, and asks. */
export interface RunEvents {
  onMade?(made: MadeIds): void
  onTime?(time: PartTime): void
  onFailed?(failed: FailedRows): void
  /** Rows that join; default: none do. */
  join?(running: number): Promise<RowGroup | undefined>
}

/** A tensor that left a graph. */
export interface RawOutput {
  /** As ONNX Runtime names it: `float32`, `int64`. */
  type: string
  dims: readonly number[]
  data: Tensor['data']
}

export interface RunnerResult {
  /** In the order of the batch's rows. */
  rows: RowResult[]
  /** Steps of text behind the first, of the longest row, and their time, ms; absent where they are not known apart. */
  steps?: number
  stepsMs?: number
  /** Of a traced graph: its other outputs, padding rows included. */
  outputs?: Record<string, RawOutput>
}

/** A model's sessions, open on one device. */
export interface Runner {
  /** Runs one batch; a second one must not begin before. */
  run(batch: RunnerBatch, events?: RunEvents): Promise<RunnerResult>
  close(): Promise<void>
}
