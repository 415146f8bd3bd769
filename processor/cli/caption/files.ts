import { rm, stat } from 'node:fs/promises'
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

/** @throws UsageError when both are the same file, or one is a pipe, a device or a folder */
export async function captionFiles(flags: { out: string; errors?: string }): Promise<CaptionFiles> {
  const files = namedFiles(flags)
  await Promise.all(Object.entries(files).map(([flag, path]) => path && assertRegular(`--${flag}`, path)))
  return files
}

function namedFiles(flags: { out: string; errors?: string }): CaptionFiles {
  if (flags.out === '-' || flags.out === '/dev/stdout') return { errors: flags.errors }
  const errors = flags.errors ?? besideOutput(flags.out)
  if (resolve(errors) === resolve(flags.out))
    throw new UsageError('--out and --errors are the same file. Use different files.')
  return { out: flags.out, errors }
}

/** What is read and cut to resume a run is a regular file, if it is there. */
async function assertRegular(flag: string, path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined || found.isFile()) return
  throw new UsageError(
    `${flag} names ${path}, which is no regular file. Choose a file${flag === '--out' ? ', or - for standard output' : ''}.`,
  )
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
