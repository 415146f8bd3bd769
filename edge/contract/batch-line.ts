import type { BatchEndpoint } from './batch.ts'

/** What a usable line of a batch asks for. */
export interface BatchLine {
  customId: string
  /** An https, `data:` or `s3://` address. */
  imageUrl: string
  model?: string
  prompt?: string
  maxPrune?: number
}

/** Why a line cannot be used. */
export interface LineFault {
  /** The line's own, where it can be read. */
  customId: string | null
  /** E.g. `invalid_json_line`. */
  code: string
  message: string
  param: string | null
}

export interface LineOptions {
  /** Number of the line in the manifest, from 1. */
  line: number
  /** What the batch was created for. */
  endpoint: BatchEndpoint
}

/**
 * Reads one line of a batch: OpenAI's `{"custom_id", "method", "url", "body"}`, the short
 * `{"image_url": ..., "custom_id": ...}`, or a bare address. Undefined for an empty line. A line without a
 * `custom_id` is called `line-<number>`.
 */
export function parseBatchLine(
  _text: string,
  _options: LineOptions,
): { ask: BatchLine } | { fault: LineFault } | undefined {
  throw new Error('not built yet')
}
