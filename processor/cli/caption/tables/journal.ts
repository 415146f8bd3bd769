import { createReadStream } from 'node:fs'
import { readLines } from '../../../../edge/contract/lines.ts'
import type { OutputLine } from '../earlier-run.ts'

/** Yields the lines of a journal, some at a time. */
export async function* readJournal(path: string): AsyncGenerator<OutputLine[]> {
  for await (const lines of readLines(createReadStream(path), { maxBytes: Number.POSITIVE_INFINITY })) {
    const read = lines.flatMap(({ text }) => (text?.trim() ? [JSON.parse(text) as OutputLine] : []))
    if (read.length > 0) yield read
  }
}
