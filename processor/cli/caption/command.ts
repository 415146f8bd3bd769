import { rm, stat } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { Command, Option } from 'commander'
import type { Reading } from '../../../edge/contract/batch.ts'
import type { Skipped } from '../../../edge/contract/formats/file-kind.ts'
import type { ConfigRow } from '../../../infra/config.ts'
import { unhonouredText } from '../../models/generation/unhonoured.ts'
import type { Captioner } from '../../pipeline/captioner.ts'
import { UsageError } from '../errors.ts'
import { type SignalSource, watchInterruption } from '../interruption.ts'
import { count, index } from '../options.ts'
import { eraseLine, newTotals, printNote, showProgress, type Terminal, type Totals } from '../progress.ts'
import { type ModelFlags, settingOption } from '../settings.ts'
import { type AskedFlags, askedBy, askedOptions } from './asked.ts'
import { dropRetried, type EarlierRun, type OutputLine, readEarlierRun } from './earlier-run.ts'
import {
  assertSafe,
  type CaptionFiles,
  captionFiles,
  damageNotes,
  errorFileAlone,
  journalFiles,
  openCaptionFiles,
} from './files.ts'
import { countSources, type Input, readSources, resolveInputs } from './inputs.ts'
import type { JsonlOutput } from './jsonl-output.ts'
import type { ReadImage } from './read-image.ts'
import { type CaptionRun, captionSources } from './run.ts'
import { checkComplete, printSummary, stopped, summaryLines } from './summary.ts'
import { type ColumnFlags, captionColumn, KeptColumns, type TableOptions } from './tables/columns.ts'
import { type TableFlags, tableOptions } from './tables/flags.ts'
import { formatOf, type OutputFormat } from './tables/output-format.ts'
import { Sidecars } from './tables/sidecar.ts'
import { openTableOutput, type TableOutput, writeTableOutput } from './tables/table-output.ts'

/** Dependencies of the command. */
export interface CaptionEnvironment extends Terminal {
  openCaptioner(flags: ModelFlags & Pick<CaptionFlags, 'decode'>): Promise<Captioner>
  readImage: ReadImage
  /** How lines of manifests are read; default: nothing is ignored. */
  reading?(): Reading
  stdin: AsyncIterable<Uint8Array>
  stdout: Writable
  signals: SignalSource
}

export interface CaptionFlags extends ModelFlags, AskedFlags, TableFlags {
  /** Default: captions.jsonl. */
  out?: string
  errors?: string
  level?: number
  decode?: string
  concurrency?: number
  overwrite?: boolean
  json?: boolean
  retryErrors?: boolean
}

const examples = `
Examples:
  npx turbine caption ./photos --out captions.jsonl
  npx turbine caption 'shoot-*/*.jpg' portrait.png --level 2
  npx turbine caption manifest.jsonl --out captions.jsonl --retry-errors
  npx turbine caption photos.parquet --image-column image --out captioned.parquet
  npx turbine caption 'shards/{00000..00999}.tar' --out 'captioned/{00000..00999}.tar'
  npx turbine caption ./training --sidecar .txt
  cat urls.txt | npx turbine caption - --out - | jq .caption

Inputs are folders (searched recursively), image files, quoted globs, https URLs, and lists (.jsonl, .json, .csv, .txt)
with one {"image": "path, https or data: URL", "custom_id": "your id", "prompt": "..."} or one bare path for each image, or
any other line of a batch; paths are relative to the list. "-" is a list on standard input.

Tables (.parquet, .csv) and lists keep their columns beside the caption; pictures in Parquet are bytes, addresses or {bytes,
path}. Shards of a WebDataset (.tar) keep their members.

In folders a picture is known by its extension, and by its first bytes where that does not tell. Hidden files and what is no
picture are left out and counted.

Each output line has the image, its custom_id, the caption, and pruning details under "turbine", in input order. Failed
images go to the error file with the reason. Run the same command again to resume, without --overwrite; Ctrl-C finishes the
images in flight first. What goes to standard output or a pipe cannot be resumed.

Exit codes: 0 all captioned, 1 some failed, 2 wrong usage, 130 stopped by Ctrl-C.`

export function captionCommand(environment: CaptionEnvironment, settings: ConfigRow[]): Command {
  const command = new Command('caption')
    .description('caption images from folders, files, globs, lists, tables or shards')
    .argument('<inputs...>', 'folders, images, globs, URLs, lists, .parquet, .tar, or - for standard input')
    .option(
      '-o, --out <file>',
      'output file: .jsonl, .csv, .tsv, .parquet or .tar; - for standard output (default: "captions.jsonl")',
    )
    .option(
      '--errors <file>',
      'error file, one JSON line per failed image (default: captions.errors.jsonl next to --out)',
    )
    .option('--level <n>', 'prune level of all images, 0 for none (default: adaptive)', index)
    .addOption(settingOption(settings, 'model'))
    .addOption(settingOption(settings, 'device'))
    .addOption(settingOption(settings, 'dtype'))
    .addOption(settingOption(settings, 'precision'))
    .addOption(settingOption(settings, 'decode'))
    .option(
      '--concurrency <n>',
      'images in flight; raise it for slow URLs (default: keeps the devices busy)',
      count,
    )
    .addOption(new Option('--retry-errors', 'retry the images of the error file').conflicts('overwrite'))
    .option('--overwrite', 'replace captions and errors of earlier runs, once the first image is done')
    .option('--json', 'print the counts as JSON at the end')
    .addHelpText('after', examples)
    .action((inputs: string[], flags: CaptionFlags) => runCaption(inputs, flags, environment))
  for (const option of [...tableOptions(), ...askedOptions()]) command.addOption(option)
  return command
}

/** Captions the inputs to a JSONL file and resumes an earlier run. @throws UsageError, InterruptedError, IncompleteError */
export async function runCaption(
  args: string[],
  flags: CaptionFlags,
  environment: CaptionEnvironment,
): Promise<void> {
  const { stderr } = environment
  const { fd: stdin } = environment.stdin as { fd?: number }
  const { fd: stdout } = environment.stdout as { fd?: number }
  const { overwrite = false, retryErrors = false } = flags
  const { out = 'captions.jsonl' } = flags
  const format = flags.sidecar === undefined ? formatOf({ out, format: flags.format }) : undefined
  const files = await filesOf(format, { out, errors: flags.errors })
  assertEarlierRun(flags, files)
  const inputs = await resolveInputs(args)
  await assertSafe(files, { inputs, stdin, stdout, overwrite })
  const table =
    format === undefined || format === 'jsonl'
      ? undefined
      : await openTableOutput({ format, out, columns: flags, inputs, overwrite })
  const earlier = await readEarlierRun(overwrite ? {} : { ...files, retryErrors })
  for (const note of damageNotes(files, earlier)) printNote(stderr, note)
  const captioner = await openCaptioner(flags, environment)
  if (captioner.unhonoured?.length) printNote(stderr, unhonouredText(captioner.unhonoured))
  const startedAt = performance.now()
  const tally = newTotals()
  const skipped: Skipped = {}
  let stoppedBy: NodeJS.Signals | undefined
  try {
    checkModel(earlier, captioner.model, files)
    const asked = askedBy(flags, captioner, environment.reading?.() ?? {})
    stoppedBy = await captionInputs({
      inputs,
      files,
      earlier,
      captioner,
      asked,
      tally,
      skipped,
      flags,
      format,
      environment,
    })
  } finally {
    await captioner.close()
  }
  if (table && !stoppedBy) await endTable(table, tally)
  const retried = retryErrors && files.errors !== undefined
  const earlierFailures = retried ? await dropRetried(files.errors!, earlier) : earlier.failures
  const result = { tally, skipped, files, earlierFailures, overwrite }
  const elapsedMs = performance.now() - startedAt
  for (const line of summaryLines(result, elapsedMs)) stderr.write(`${line}\n`)
  if (flags.json) printSummary(result, elapsedMs, environment)
  if (stoppedBy) throw stopped(result, stoppedBy)
  checkComplete(result, args)
}

/** Where captions and failures go. */
function filesOf(format: OutputFormat | undefined, named: { out: string; errors?: string }) {
  if (format === undefined) return errorFileAlone(named.errors)
  return format === 'jsonl' ? captionFiles(named) : journalFiles(named)
}

/** Makes the output of all captions, unless there are none, or that of an earlier run has them. */
async function endTable(table: TableOutput, { captioned }: Totals): Promise<void> {
  const journal = await stat(table.journal).catch(() => undefined)
  if (!journal) return
  if (journal.size === 0 || (table.isRestored && captioned === 0)) await rm(table.journal)
  else await writeTableOutput(table)
}

/** Without a file there is no earlier run. @throws UsageError */
function assertEarlierRun({ retryErrors, overwrite }: CaptionFlags, { out, errors }: CaptionFiles): void {
  if (out !== undefined || errors !== undefined || !(retryErrors || overwrite)) return
  throw new UsageError(
    `${retryErrors ? '--retry-errors' : '--overwrite'} needs a file: name it with --out or --errors.`,
  )
}

/** Opens the model, which can take seconds, with a note on a terminal. */
async function openCaptioner(flags: CaptionFlags, environment: CaptionEnvironment): Promise<Captioner> {
  const { stderr } = environment
  if (stderr.isTTY) stderr.write('Opening the model ...')
  return environment.openCaptioner(flags).finally(() => {
    if (stderr.isTTY) stderr.write(eraseLine)
  })
}

interface CaptionInputs {
  inputs: Input[]
  files: CaptionFiles
  earlier: EarlierRun
  captioner: Captioner
  /** What every image is captioned with. */
  asked: ReturnType<typeof askedBy>
  tally: Totals
  /** What is left out of folders. */
  skipped: Skipped
  flags: CaptionFlags
  /** Absent: captions go beside the pictures. */
  format: OutputFormat | undefined
  environment: CaptionEnvironment
}

/** Captions until the end or the first SIGINT or SIGTERM. @returns the signal */
async function captionInputs(run: CaptionInputs): Promise<NodeJS.Signals | undefined> {
  const { inputs, earlier, asked, tally, skipped, flags, format, environment } = run
  const { output, errors } = await openCaptionFiles(run.files, {
    earlier,
    overwrite: flags.overwrite === true,
    stdout: environment.stdout,
    onError: (text) => progress.note(text),
  })
  const progress = showProgress({ stream: environment.stderr, tally })
  const { signal, dispose } = watchInterruption(environment.signals, () =>
    progress.note('Finishing the images in flight. Press Ctrl-C again to quit immediately.'),
  )
  try {
    // Not awaited: counting a large folder takes a while.
    countSources(inputs, signal)
      .then((total) => {
        tally.total = total
      })
      .catch(() => {})
    await captionSources({
      sources: readSources(inputs, {
        stdin: environment.stdin,
        model: run.captioner.model,
        reading: { ...environment.reading?.(), can: run.captioner.can },
        skipped,
        tables: tablesFor(format, flags),
      }),
      captioner: run.captioner,
      readImage: environment.readImage,
      ...outputsFor(format, { output, flags }),
      errors,
      done: earlier.done,
      tally,
      task: { level: flags.level, ...asked },
      dedupe: flags.dedupe,
      concurrency: flags.concurrency,
      signal,
    })
  } finally {
    await Promise.all([output.close(), errors.close()])
    progress.close()
    dispose()
  }
  return signal.aborted ? signal.reason : undefined
}

/** What is read of tables, for what is written. */
function tablesFor(format: OutputFormat | undefined, columns: ColumnFlags): TableOptions {
  const isKept = format !== undefined && format !== 'webdataset'
  return {
    columns,
    ...(isKept && { kept: new KeptColumns(columns, format !== 'jsonl') }),
    byReference: format === 'parquet',
  }
}

/** Columns lie beside the caption in lines of JSON; captions beside pictures have no other output. */
function outputsFor(
  format: OutputFormat | undefined,
  { output, flags }: { output: JsonlOutput<OutputLine>; flags: CaptionFlags },
): Pick<CaptionRun, 'output' | 'sidecars'> {
  if (format === undefined)
    return {
      output: { append: async () => {}, close: async () => {} },
      sidecars: new Sidecars(flags.sidecar!, flags.overwrite === true),
    }
  if (format !== 'jsonl') return { output }
  return {
    output: {
      append: (line) => output.append(flatLine(line, captionColumn(flags)) as OutputLine),
      close: () => output.close(),
    },
  }
}

/** The columns of a row beside its caption. */
function flatLine(
  { columns, caption, finish_reason, captions, turbine, ...head }: OutputLine,
  name: string,
): object {
  return { ...head, ...columns, [name]: caption, finish_reason, captions, turbine }
}

function checkModel(earlier: EarlierRun, model: string, { out, made = out }: CaptionFiles): void {
  if (earlier.model === undefined || earlier.model === model) return
  throw new UsageError(
    `${made} has captions of model ${earlier.model}, but this run would use ${model}. Give that model with --model, ` +
      'or choose another --out.',
  )
}
