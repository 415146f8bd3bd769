import { extname } from 'node:path'
import { UsageError } from '../../errors.ts'

/** What the captions are written as. */
export const outputFormats = ['jsonl', 'csv', 'tsv', 'parquet', 'webdataset'] as const
export type OutputFormat = (typeof outputFormats)[number]

const byExtension = new Map<string, OutputFormat>([
  ['.csv', 'csv'],
  ['.tsv', 'tsv'],
  ['.parquet', 'parquet'],
  ['.tar', 'webdataset'],
])

/** By `--format`, else by the extension of the output; lines of JSON for any other. @throws UsageError */
export function formatOf({ out, format }: { out: string; format?: string }): OutputFormat {
  const known = outputFormats.find((name) => name === format)
  if (format !== undefined && !known)
    throw new UsageError(`--format ${format} is unknown. It is one of ${outputFormats.join(', ')}.`)
  return known ?? byExtension.get(extname(out).toLowerCase()) ?? 'jsonl'
}

/**
 * Lines of JSON that a run adds to as it goes. What cannot be added to, as Parquet, is made of them at the end, and they are
 * removed: a run that was killed goes on from them.
 */
export const journalOf = (out: string) => `${out}.journal`
