import { hash } from 'node:crypto'
import { access, constants, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import { type Picture, toBatches } from '../../calibration/pictures.ts'
import { plannedCaptions } from '../../calibration/search.ts'
import { sample, splitPictures } from '../../calibration/split.ts'
import { preprocess } from '../../engine/preprocess.ts'
import { levelsFile, readLevels, readLevelTable, writeLevelTable } from '../../models/levels.ts'
import type { ImageSpec } from '../../models/model.ts'
import { perLayer } from '../../turbo/schedule.ts'
import { readSources, resolveInputs } from '../caption/inputs.ts'
import type { Source } from '../caption/manifest.ts'
import type { ReadImage } from '../caption/read-image.ts'
import { describeError, InterruptedError, UsageError } from '../errors.ts'
import { formatDuration, plural } from '../format.ts'
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

/** With fewer the held-out part says nothing. */
const fewestPictures = 20

/**
 * `turbine calibrate`. @throws UsageError, IncompleteError, InterruptedError, or what opening the model throws
 */
export async function runCalibration(
  flags: CalibrateFlags,
  environment: CalibrateEnvironment,
): Promise<void> {
  const { stderr, signals } = environment
  if (flags.levels < 2) throw new UsageError('--levels is 1. The unpruned level and one more are the least.')
  const calibrator = await environment.openCalibrator(flags)
  const { signal, dispose } = watchInterruption(signals, () =>
    printNote(stderr, 'Stopping after the batch in hand. Press Ctrl-C again to quit at once.'),
  )
  try {
    const out = flags.out ?? calibrator.model.folder
    if (!flags.dryRun) await checkWritable(out)
    const run = await prepare(out, { calibrator, flags, environment, signal })
    if (flags.dryRun) await tellPlan(run)
    else if (flags.speedOnly) await measureAgain(run)
    else await calibrateAndWrite(run)
  } catch (error) {
    if (!signal.aborted) throw error
    throw new InterruptedError('Stopped. The same command goes on where it was.', signal.reason)
  } finally {
    dispose()
    await calibrator.close()
  }
}

async function checkWritable(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true })
    await access(folder, constants.W_OK)
  } catch (cause) {
    throw new UsageError(`The folder ${folder} cannot be written. Name another one with --out.`, { cause })
  }
}

/** Reads the pictures and parts them. @throws UsageError when there are too few */
async function prepare(
  out: string,
  given: Pick<CalibrationRun, 'calibrator' | 'flags' | 'environment' | 'signal'>,
): Promise<CalibrationRun> {
  const { calibrator, flags, environment, signal } = given
  const { image } = calibrator.model
  const { count, seed } = flags
  const { pictures, unreadable } = await readPictures(flags.images, {
    ...environment,
    count,
    seed,
    image,
    signal,
  })
  signal.throwIfAborted()
  for (const line of unreadableLines(unreadable)) printNote(environment.stderr, line)
  const parts = splitPictures(pictures, { seed })
  const { search, heldOut } = parts
  const total = search.length + heldOut.length
  if (total < fewestPictures)
    throw new UsageError(
      `${plural(total, 'different picture')} can be read, and calibration needs at least ${fewestPictures}. Name ` +
        'more with --images; some hundreds are good.',
    )
  const size = calibrator.batch
  return {
    ...given,
    out,
    pictures: { search: search.length, heldOut: heldOut.length },
    digests: [...search, ...heldOut].map(({ digest }) => digest),
    batches: {
      search: toBatches(search, { image, size }),
      heldOut: toBatches(heldOut, { image, size }),
    },
  }
}

/** `--dry-run`: captions one batch, to say how long the whole takes. */
async function tellPlan({ calibrator, batches, pictures, out, environment }: CalibrationRun): Promise<void> {
  const { encoder, id } = calibrator.model
  const none = { r: perLayer(0, encoder.layers), weight: perLayer(0, encoder.layers) }
  // The first run sets up memory.
  await calibrator.run(batches.search[0]!, none)
  const { inferenceMs } = await calibrator.run(batches.search[0]!, none)
  const captions = plannedCaptions(encoder, pictures.search)
  const longestMs = (captions * inferenceMs) / batches.search[0]!.count
  environment.stdout.write(
    `Model ${id} on ${calibrator.device}: ${plural(pictures.search, 'picture')} to choose levels by, ` +
      `${pictures.heldOut} to confirm them.\n` +
      `About ${plural(captions, 'caption')} at most, up to ${formatDuration(longestMs)}; pruned ones take less.\n` +
      `It would write ${join(out, levelsFile)} and ${join(out, chartFile)}.\n`,
  )
}

/** `--speed-only`: the same levels, with the speeds of this device. @throws UsageError without a calibrated table of this model */
async function measureAgain(run: CalibrationRun): Promise<void> {
  const { calibrator, out, environment } = run
  const table = await readLevelTable(out)
  if (!table?.calibration)
    throw new UsageError(
      `${join(out, levelsFile)} is no calibrated table. Run the command without --speed-only first.`,
    )
  const levels = await readLevels(out, calibrator.model.encoder)
  const speed = levelSpeeds(calibrator, await speedsOf(run, levels))
  await writeLevelTable(out, { ...table, calibration: { ...table.calibration, speed } })
  environment.stdout.write(levelLines(levels, speed))
}

interface PictureOptions {
  /** Pictures at most. */
  count: number
  seed: number
  image: ImageSpec
  readImage: ReadImage
  stdin: AsyncIterable<Uint8Array>
  signal?: AbortSignal
}

interface ReadPictures {
  pictures: Picture[]
  /** One line for each that could not be read. */
  unreadable: string[]
}

/**
 * Reads pictures from folders, files, globs, addresses and manifests; of more than `count` a random choice, the same
 * for the same seed. @throws UsageError when an argument names nothing that exists.
 */
async function readPictures(args: string[], options: PictureOptions): Promise<ReadPictures> {
  const { count, seed, signal } = options
  const sources = readSources(await resolveInputs(args), options.stdin)
  const chosen = await sample(sources, { count, seed, nameOf: ({ image }) => image })
  const read = mapInOrder(chosen, (source) => readPicture(source, options), { concurrency: 4, signal })
  const pictures: Picture[] = []
  const unreadable: string[] = []
  for await (const result of read)
    if ('pixels' in result) pictures.push(result)
    else unreadable.push(result.failure)
  return { pictures, unreadable }
}

async function readPicture(
  { image: name, location, error }: Source,
  { image, readImage }: PictureOptions,
): Promise<Picture | { failure: string }> {
  try {
    if (location === undefined) throw error
    const bytes = await readImage(location)
    const pixels = new Uint8Array(image.height * image.width * 3)
    await preprocess(bytes, image, pixels)
    return { digest: hash('sha256', bytes), pixels }
  } catch (cause) {
    return { failure: `${name}: ${describeError(cause)}` }
  }
}
