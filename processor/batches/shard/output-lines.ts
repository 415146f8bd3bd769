import type { Pruning } from '../../../edge/contract/caption.ts'
import type { ShardTally } from '../../../edge/contract/shard.ts'

/** A line of an output file, as far as its pruning goes. */
export interface OutputResult {
  /** The line itself, without its end. */
  text: string
  /** `batch_req_...` */
  id: string
  pruning: Pruning
}

interface StoredLine {
  id: string
  response: { body: { turbine: Pruning } }
}

/** Reads a line that `outputLine` made. */
export function readOutputLine(text: string): OutputResult {
  const { id, response }: StoredLine = JSON.parse(text)
  return { text, id, pruning: response.body.turbine }
}

/** Lines of a shard's object, without their ends; byte for byte what was encoded. */
export function splitLines(bytes: Uint8Array): string[] {
  const lines = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes).split('\n')
  lines.pop()
  return lines
}

/** What came of a shard with these output lines. */
export function tallyOutput(
  results: readonly OutputResult[],
  { failed, dropped }: Pick<ShardTally, 'failed' | 'dropped'>,
): ShardTally {
  const sum = (value: (pruning: Pruning) => number) =>
    results.reduce((total, { pruning }) => total + value(pruning), 0)
  return {
    completed: results.length,
    failed,
    dropped,
    pruneRatioSum: sum(({ prune_ratio }) => prune_ratio),
    inputTokens: sum(({ tokens_in }) => tokens_in),
    outputTokens: sum(({ output_tokens }) => output_tokens),
    pruned: sum(({ prune_level }) => (prune_level > 0 ? 1 : 0)),
    repaid: sum(({ repaid }) => (repaid ? 1 : 0)),
  }
}
