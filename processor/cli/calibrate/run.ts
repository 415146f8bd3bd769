import { hash } from 'node:crypto'
import { access, constants, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { describeSkipped, type Skipped } from '../../../edge/contract/formats/file-kind.ts'
import { memoryLimit } from '../../../infra/memory.ts'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import { type Picture, toBatches } from '../../calibration/pictures.ts'
import { plannedCaptions } from '../../calibration/search.ts'
import { sample, splitPictures } from '../../calibration/split.ts'
import { ownBytes } from '../../decoding/loaders/loaded-image.ts'
import { readPicture } from '../../engine/read-picture.ts'
import { levelsFile, readLevels, readLevelTable, writeLevelTable } from '../../models/levels.ts'
import type { PictureRule } from '../../models/pictures.ts'
import { perLayer } from '../../turbo/schedule.ts'
import { readSources, resolveInputs } from '../caption/inputs.ts'
import type { Source } from '../caption/manifest.ts'
import { describeError, InterruptedError, UsageError } from '../errors.ts'
import { formatBytes, formatDuration, plural } from '../format.ts'
import { watchInterruption } from '../interruption.ts'
import { printNote } from '../progress.ts'
import type { CalibrateEnvironment, CalibrateFlags } from './environment.ts'
import {
  type CalibrationRun,
  calibrateAndWrite,
  chartFile,
  levelLines,
  levelSpeeds,
  speedsOf,
  unreadableLines,
} from './search.ts'

/** Fewer held-out pictures confirm nothing. */
const fewestPictures = 20

/** `turbine calibrate`. @throws UsageError, IncompleteError, InterruptedError, errors of opening the model */
export async function runCalibration(
  flags: CalibrateFlags,
  environment: CalibrateEnvironment,
): Promise<void> {
  const { stderr, signals } = environment
  if (flags.levels < 2) throw new UsageError(`--levels must be at least 2, got ${flags.levels}.`)
  const { now = () => performance.now(), peakMemory = takenMemory } = environment
  const startedAt = now()
  const calibrator = await environment.openCalibrator(flags)
  const { signal, dispose } = watchInterruption(signals, () =>
    printNote(stderr, 'Stopping after the current batch. Press Ctrl-C again to quit immediately.'),
  )
  try {
    const out = flags.out ?? calibrator.model.folder
    if (!flags.dryRun) await checkWritable(out)
    const run = await prepare(out, { calibrator, flags, environment, signal })
    if (flags.dryRun) await printPlan(run)
    else if (flags.speedOnly) await remeasure(run)
    else await calibrateAndWrite(run)
    const took = `It took ${formatDuration(now() - startedAt)}, and ${formatBytes(peakMemory())} of memory at most.`
    printNote(stderr, took)
  } catch (error) {
    if (!signal.aborted) throw error
    throw new InterruptedError('Stopped. Run the same command again to resume.', signal.reason)
  } finally {
    dispose()
    await calibrator.close()
  }
}

/** As `getrusage` says, KiB. */
const takenMemory = () => 1024 * process.resourceUsage().maxRSS

async function checkWritable(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true })
    await access(folder, constants.W_OK)
  } catch (cause) {
    throw new UsageError(`The folder ${folder} is not writable. Choose another one with --out.`, { cause })
  }
}

/** Reads and splits the pictures. @throws UsageError when there are too few */
async function prepare(
  out: string,
  given: Pick<CalibrationRun, 'calibrator' | 'flags' | 'environment' | 'signal'>,
): Promise<CalibrationRun> {
  const { calibrator, flags, environment, signal } = given
  const { picture: rule } = calibrator.model
  const { count, seed } = flags
  const { pictures, unreadable, skipped, left } = await readPictures(flags.images, {
    ...environment,
    count,
    seed,
    rule,
    signal,
  })
  signal.throwIfAborted()
  if (skipped) printNote(environment.stderr, `Folders: ${skipped}`)
  for (const line of unreadableLines(unreadable)) printNote(environment.stderr, line)
  if (left > 0)
    printNote(
      environment.stderr,
      `${plural(pictures.length, 'picture')} fit into memory, decoded; ${left} of those chosen are left out.`,
    )
  const parts = splitPictures(pictures, { seed })
  const { search, heldOut } = parts
  const total = search.length + heldOut.length
  if (total < fewestPictures)
    throw new UsageError(
      `Calibration needs at least ${fewestPictures} different pictures, got ${total}. Add some hundreds with --images.`,
    )
  const size = calibrator.batch
  return {
    ...given,
    out,
    pictures: { search: search.length, heldOut: heldOut.length },
    digests: [...search, ...heldOut].map(({ digest }) => digest),
    batches: {
      search: toBatches(search, size),
      heldOut: toBatches(heldOut, size),
    },
  }
}

/** `--dry-run`: captions one batch to estimate the duration. */
async function printPlan({ calibrator, batches, pictures, out, environment }: CalibrationRun): Promise<void> {
  const { encoder, id } = calibrator.model
  const none = { r: perLayer(0, encoder.layers), weight: perLayer(0, encoder.layers) }
  // The first run allocates memory.
  await calibrator.run(batches.search[0]!, none)
  const { inferenceMs } = await calibrator.run(batches.search[0]!, none)
  const captions = plannedCaptions(encoder, pictures.search)
  const longestMs = (captions * inferenceMs) / batches.search[0]!.count
  environment.stdout.write(
    `Model ${id} on ${calibrator.device}: ${plural(pictures.search, 'picture')} to choose levels, ` +
      `${pictures.heldOut} to confirm them.\n` +
      `About ${plural(captions, 'caption')} at most, up to ${formatDuration(longestMs)}; pruned ones take less.\n` +
      `It would write ${join(out, levelsFile)} and ${join(out, chartFile)}.\n`,
  )
}

/** `--speed-only`: measures the levels of a table on this device. @throws UsageError without a calibrated table */
async function remeasure(run: CalibrationRun): Promise<void> {
  const { calibrator, out, environment } = run
  const table = await readLevelTable(out)
  if (!table?.calibration)
    throw new UsageError(
      `${join(out, levelsFile)} is not a calibrated table. Run without --speed-only first.`,
    )
  const levels = await readLevels(out, calibrator.model.encoder)
  const speed = levelSpeeds(calibrator, await speedsOf(run, levels))
  await writeLevelTable(out, { ...table, calibration: { ...table.calibration, speed } })
  environment.stdout.write(levelLines(levels, speed, calibrator))
}

type PictureOptions = Pick<CalibrateFlags, 'count' | 'seed'> &
  Pick<CalibrateEnvironment, 'readImage' | 'stdin' | 'pictureBytes'> & {
    rule: PictureRule
    signal: AbortSignal
  }

/**
 * Reads at most `count` pictures, chosen at random by the seed, as far as memory for their pixels goes.
 * @throws UsageError for a missing file
 */
async function readPictures(args: string[], options: PictureOptions) {
  const { count, seed, signal, pictureBytes = memoryLimit() / 4 } = options
  const skipped: Skipped = {}
  const sources = readSources(await resolveInputs(args), { stdin: options.stdin, skipped })
  const chosen = await sample(sources, { count, seed, nameOf: ({ image }) => image })
  const read = mapInOrder(chosen, (source) => readSource(source, options), { concurrency: 4, signal })
  const pictures: Picture[] = []
  const unreadable: string[] = []
  let bytes = 0
  for await (const result of read) {
    if (typeof result === 'string') {
      unreadable.push(result)
      continue
    }
    bytes += result.pixels.length
    if (bytes > pictureBytes) break
    pictures.push(result)
  }
  const left = chosen.length - pictures.length - unreadable.length
  return { pictures, unreadable, skipped: describeSkipped(skipped), left }
}

/** @returns the picture, or a line that says why it cannot be read */
async function readSource(
  { image: name, location, error }: Source,
  { rule, readImage }: PictureOptions,
): Promise<Picture | string> {
  try {
    if (location === undefined) throw error
    const bytes = ownBytes(await readImage(location))
    return { digest: hash('sha256', bytes), ...(await readPicture(bytes, rule)) }
  } catch (cause) {
    return `${name}: ${describeError(cause)}`
  }
}
