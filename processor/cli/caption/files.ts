import { rm } from 'node:fs/promises'
import { extname, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { UsageError } from '../errors.ts'
import type { EarlierRun, ErrorLine, OutputLine } from './earlier-run.ts'
import { JsonlFile, type JsonlOutput, streamOutput } from './jsonl-output.ts'

/** Where captions and failures go. */
export interface CaptionFiles {
  /** Absent: standard output. */
  out?: string
  /** Absent: failures are told on standard error only. */
  errors?: string
}

/** @throws UsageError when both would be the same file. */
export function captionFiles(flags: { out: string; errors?: string }): CaptionFiles {
  if (flags.out === '-') return { errors: flags.errors }
  const errors = flags.errors ?? besideOutput(flags.out)
  if (resolve(errors) === resolve(flags.out))
    throw new UsageError('--out and --errors name the same file. Give each its own.')
  return { out: flags.out, errors }
}

/** `captions.jsonl` to `captions.errors.jsonl` */
function besideOutput(out: string): string {
  const extension = extname(out)
  return `${extension ? out.slice(0, -extension.length) : out}.errors${extension || '.jsonl'}`
}

export interface OpenOptions {
  earlier: EarlierRun
  /** Drop what earlier runs left in the error file. */
  dropErrors: boolean
  stdout: Writable
  /** Tells a failure when there is no error file. */
  tell(text: string): void
}

/** Opens both outputs where the earlier run stopped. The error file is created by its first line only. */
export async function openCaptionFiles(
  files: CaptionFiles,
  { earlier, dropErrors, stdout, tell }: OpenOptions,
): Promise<{ output: JsonlOutput<OutputLine>; errors: JsonlOutput<ErrorLine> }> {
  if (files.errors !== undefined && dropErrors) await rm(files.errors, { force: true })
  const errors =
    files.errors === undefined
      ? toldErrors(tell)
      : new JsonlFile(files.errors, dropErrors ? 0 : earlier.errorsBytes)
  if (files.out === undefined) return { output: streamOutput(stdout), errors }
  const output = new JsonlFile(files.out, earlier.outBytes)
  await output.open()
  return { output, errors }
}

const toldErrors = (tell: (text: string) => void): JsonlOutput<ErrorLine> => ({
  append: async ({ image, error }) => tell(`${image}: ${error.message} (${error.code})`),
  close: async () => {},
})
