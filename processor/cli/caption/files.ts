import { rm, stat } from 'node:fs/promises'
import { extname, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { UsageError } from '../errors.ts'
import { assertNotInput, type NamedOutput } from '../same-file.ts'
import { assertOutput, type EarlierRun, type FailureLine, type OutputLine } from './earlier-run.ts'
import type { Input } from './inputs.ts'
import { damagedFile, JsonlFile, type JsonlOutput, pipeOutput, streamOutput } from './jsonl-output.ts'
import type { FilePart, ScannedJsonl } from './jsonl-scan.ts'
import { journalOf } from './tables/output-format.ts'
import { shardPaths } from './tables/shard-table.ts'

/** Files for captions and errors. */
export interface CaptionFiles {
  /** Absent: a pipe or standard output. */
  out?: string
  /** Absent: a pipe or standard error. */
  errors?: string
  /** Named pipes in the place of the files, e.g. of a process substitution. They cannot be resumed. */
  pipes: { out?: string; errors?: string }
  /** What is made of `out` at the end. */
  made?: string
}

const standardOutput = new Set(['-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'])
const standardError = new Set(['-', '/dev/stderr', '/dev/fd/2', '/proc/self/fd/2'])

/** @throws UsageError when both are the same file, or one is a device or a folder */
export async function captionFiles(flags: { out: string; errors?: string }): Promise<CaptionFiles> {
  const named = namedFiles(flags)
  const files: CaptionFiles = { pipes: {} }
  for (const kind of ['out', 'errors'] as const) {
    const path = named[kind]
    if (path === undefined) continue
    const place = (await isPipe(`--${kind}`, path)) ? files.pipes : files
    place[kind] = path
  }
  return files
}

function namedFiles(flags: { out: string; errors?: string }): { out?: string; errors?: string } {
  const out = standardOutput.has(flags.out) ? undefined : flags.out
  if (flags.errors !== undefined && standardError.has(flags.errors)) return { out }
  // Nothing lies beside a pipe's number.
  const isNumbered = /^\/(?:dev|proc\/self)\/fd\//.test(flags.out)
  const errors = flags.errors ?? (out === undefined || isNumbered ? undefined : besideOutput(out))
  if (out !== undefined && errors !== undefined && resolve(errors) === resolve(out))
    throw new UsageError('--out and --errors are the same file. Use different files.')
  return { out, errors }
}

/** What is read and cut to resume a run is a regular file, if it is there. */
async function isPipe(flag: string, path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (found?.isFIFO()) return true
  if (found === undefined || found.isFile()) return false
  throw new UsageError(
    `${flag} names ${path}, which is no regular file. Choose a file, or - for standard ${flag === '--out' ? 'output' : 'error'}.`,
  )
}

/** Files of a run that makes another one of its lines at the end. @throws UsageError where it cannot be a file */
export async function journalFiles(flags: { out: string; errors?: string }): Promise<CaptionFiles> {
  const { out } = await captionFiles(flags)
  if (out === undefined)
    throw new UsageError(`--out ${flags.out} is no file. Only lines of JSON can be written to a stream.`)
  const errors = flags.errors ?? `${besideOutput(out).slice(0, -extname(out).length)}.jsonl`
  return { ...(await captionFiles({ out: journalOf(out), errors })), made: out }
}

/** Files of a run that writes its captions beside the pictures. */
export async function errorFileAlone(errors = 'captions.errors.jsonl'): Promise<CaptionFiles> {
  const { out: _, ...files } = await captionFiles({ out: '-', errors })
  return files
}

/** `captions.jsonl` to `captions.errors.jsonl` */
function besideOutput(out: string): string {
  const extension = extname(out)
  return `${extension ? out.slice(0, -extension.length) : out}.errors${extension || '.jsonl'}`
}

interface SafetyOptions {
  inputs: readonly Input[]
  /** Descriptors of the standard streams. */
  stdin?: number
  stdout?: number
  overwrite: boolean
}

/**
 * Checks that nothing is written that is read, and that `overwrite` replaces nothing but files of earlier runs.
 * @throws UsageError
 */
export async function assertSafe(
  { out, errors, pipes, made }: CaptionFiles,
  { inputs, stdin, stdout, overwrite }: SafetyOptions,
): Promise<void> {
  const outputs: NamedOutput[] = []
  const written = out ?? (pipes.out === undefined ? stdout : undefined)
  if (written !== undefined) outputs.push({ option: '--out', path: written })
  if (errors !== undefined) outputs.push({ option: '--errors', path: errors })
  const read = inputs.flatMap((input) => {
    if (input.kind === 'stdin') return stdin ?? []
    return 'path' in input && input.kind !== 'folder' && input.kind !== 'glob' ? input.path : []
  })
  if (made !== undefined)
    for (const path of new Set([made, ...shardPaths(made)]))
      await assertNotInput([...outputs, { option: '--out', path }], read)
  await assertNotInput(outputs, read)
  if (!overwrite) return
  if (out !== undefined) await assertOutput(out, 'out')
  if (errors !== undefined) await assertOutput(errors, 'errors')
}

/** Lines about what was wrong with the files of an earlier run, and what becomes of it. */
export function damageNotes({ out, errors }: CaptionFiles, earlier: EarlierRun): string[] {
  return [
    ...(out === undefined ? [] : damageOf(out, earlier.out)),
    ...(errors === undefined ? [] : damageOf(errors, earlier.errors)),
  ]
}

function damageOf(path: string, { damaged, tail }: ScannedJsonl): string[] {
  const parts = tail ? [...damaged, tail] : damaged
  if (parts.length === 0) return []
  const shown = parts.slice(0, 5).map(lineNumbers).join(', ')
  const more = parts.length > 5 ? ', ...' : ''
  return [
    `${path} is damaged at line ${shown}${more}: what is there is kept in ${damagedFile(path)}, and its images are captioned again.`,
  ]
}

const lineNumbers = ({ line, lines }: FilePart) =>
  lines === 1 ? `${line}` : `${line} to ${line + lines - 1}`

export interface OpenOptions {
  earlier: EarlierRun
  /** Replaces the captions and the errors of earlier runs. */
  overwrite: boolean
  stdout: Writable
  /** Receives a failure when there is no error file. */
  onError(text: string): void
}

interface CaptionOutputs {
  output: JsonlOutput<OutputLine>
  errors: JsonlOutput<FailureLine>
}

/**
 * Opens both outputs at the end of the earlier run. What is to be replaced stays until the first image is done. The error
 * file is created with its first line.
 */
export async function openCaptionFiles(files: CaptionFiles, options: OpenOptions): Promise<CaptionOutputs> {
  const { earlier, overwrite, stdout, onError } = options
  const output =
    files.out === undefined
      ? undefined
      : new JsonlFile<OutputLine>(files.out, overwrite ? 'replace' : earlier.out)
  const errors =
    files.errors === undefined ? undefined : new JsonlFile<FailureLine>(files.errors, earlier.errors)
  const begin = async () => {
    if (files.errors !== undefined && overwrite) await rm(files.errors, { force: true })
    await output?.open()
  }
  if (!overwrite) {
    await output?.open()
    // What is there is repaired, also where nothing fails any more.
    if (earlier.failures > 0) await errors?.open()
  }
  return beginWithFirstLine(
    {
      output: output ?? (files.pipes.out ? pipeOutput(files.pipes.out) : streamOutput(stdout)),
      errors: errors ?? (files.pipes.errors ? pipeOutput(files.pipes.errors) : notedErrors(onError)),
    },
    begin,
  )
}

const notedErrors = (onError: OpenOptions['onError']): JsonlOutput<FailureLine> => ({
  append: async ({ image, error }) => onError(`${image}: ${error.message} (${error.code})`),
  close: async () => {},
})

/** Calls `begin` once, before the first line of either output. */
function beginWithFirstLine({ output, errors }: CaptionOutputs, begin: () => Promise<void>): CaptionOutputs {
  let begun: Promise<void> | undefined
  const begins = <T extends object>(lines: JsonlOutput<T>): JsonlOutput<T> => ({
    async append(value) {
      begun ??= begin()
      await begun
      await lines.append(value)
    },
    close: () => lines.close(),
  })
  return { output: begins(output), errors: begins(errors) }
}
