import { rm } from 'node:fs/promises'
import { extname, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { UsageError } from '../errors.ts'
import type { EarlierRun, FailureLine, OutputLine } from './earlier-run.ts'
import { JsonlFile, type JsonlOutput, streamOutput } from './jsonl-output.ts'

/** Files for captions and errors. */
export interface CaptionFiles {
  /** Absent: standard output. */
  out?: string
  /** Absent: standard error. */
  errors?: string
}

/** @throws UsageError when both are the same file */
export function captionFiles(flags: { out: string; errors?: string }): CaptionFiles {
  if (flags.out === '-') return { errors: flags.errors }
  const errors = flags.errors ?? besideOutput(flags.out)
  if (resolve(errors) === resolve(flags.out))
    throw new UsageError('--out and --errors are the same file. Use different files.')
  return { out: flags.out, errors }
}

/** `captions.jsonl` to `captions.errors.jsonl` */
function besideOutput(out: string): string {
  const extension = extname(out)
  return `${extension ? out.slice(0, -extension.length) : out}.errors${extension || '.jsonl'}`
}

export interface OpenOptions {
  earlier: EarlierRun
  /** Deletes the errors of earlier runs. */
  dropErrors: boolean
  stdout: Writable
  /** Receives a failure when there is no error file. */
  onError(text: string): void
}

/** Opens both outputs at the end of the earlier run. The error file is created with its first line. */
export async function openCaptionFiles(
  files: CaptionFiles,
  { earlier, dropErrors, stdout, onError }: OpenOptions,
): Promise<{ output: JsonlOutput<OutputLine>; errors: JsonlOutput<FailureLine> }> {
  if (files.errors !== undefined && dropErrors) await rm(files.errors, { force: true })
  const errors: JsonlOutput<FailureLine> =
    files.errors === undefined
      ? {
          append: async ({ image, error }) => onError(`${image}: ${error.message} (${error.code})`),
          close: async () => {},
        }
      : new JsonlFile(files.errors, dropErrors ? 0 : earlier.errorsBytes)
  if (files.out === undefined) return { output: streamOutput(stdout), errors }
  const output = new JsonlFile<OutputLine>(files.out, earlier.outBytes)
  await output.open()
  return { output, errors }
}
