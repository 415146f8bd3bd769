import { hash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { drawSvg } from '../../../infra/plot/svg.ts'
import { agreementWith, tagAgreementWith } from '../../calibration/agreement.ts'
import { type CalibrationResult, calibrateLevels } from '../../calibration/calibration.ts'
import type { Calibrator } from '../../calibration/calibrator.ts'
import { scheduleKey } from '../../calibration/candidates.ts'
import { levelsChart } from '../../calibration/chart.ts'
import { comparison } from '../../calibration/comparison.ts'
import type { Dropped } from '../../calibration/front.ts'
import { filledUp, type PictureBatch } from '../../calibration/pictures.ts'
import { searchVersion } from '../../calibration/search.ts'
import { measureSpeeds, type Speed } from '../../calibration/speed.ts'
import type { Parts } from '../../calibration/split.ts'
import {
  type LevelQuality,
  type LevelSpeeds,
  levelsFile,
  type PruneLevel,
  toLevel,
  writeLevelTable,
} from '../../models/levels.ts'
import { flopShare } from '../../turbo/flops.ts'
import type { Schedule } from '../../turbo/schedule.ts'
import { IncompleteError } from '../errors.ts'
import { formatRate, formatShare, formatTable } from '../format.ts'
import { finishedImages, newTotals, printNote, showProgress } from '../progress.ts'
import { replaceFile } from '../replace-file.ts'
import type { CalibrateEnvironment, CalibrateFlags } from './environment.ts'
import { type CalibrationState, openCalibrationState } from './state.ts'

/** Chart of the levels, next to their table. */
export const chartFile = 'turbine-levels.svg'
const stateFile = 'turbine-calibration.jsonl'

/** State of a run once the pictures are read. */
export interface CalibrationRun {
  calibrator: Calibrator
  batches: Parts<PictureBatch>
  pictures: { search: number; heldOut: number }
  /** Digests of the pictures, in order. */
  digests: string[]
  /** Folder of the table. */
  out: string
  flags: CalibrateFlags
  environment: CalibrateEnvironment
  signal: AbortSignal
}

/** Searches levels, and writes and prints their table. @throws IncompleteError when none is found */
export async function calibrateAndWrite(run: CalibrationRun): Promise<void> {
  const { flags, out, environment } = run
  const path = flags.state ?? join(out, stateFile)
  const state = await openCalibrationState(path, fingerprint(run))
  try {
    if (state.resumed) printNote(environment.stderr, `Resuming from ${path}.`)
    await write(run, await search(run, state))
  } catch (error) {
    await state.close()
    throw error
  }
  // A named file can be resumed from with other options.
  await (flags.state === undefined ? state.remove() : state.close())
}

/** Hashes everything that captions and speeds depend on. */
function fingerprint({ calibrator, digests, pictures }: CalibrationRun): string {
  const { modelDigest, device, batch, request } = calibrator
  const asked = { searchVersion, modelDigest, device, batch, pictures, digests, request }
  return hash('sha256', JSON.stringify(asked))
}

/** Searches with a progress line; results of an earlier run are reused. */
async function search(run: CalibrationRun, state: CalibrationState): Promise<CalibrationResult> {
  const { calibrator, batches, pictures, flags, environment } = run
  const { encoder } = calibrator.model
  const agreement = calibrator.tags ? tagAgreementWith : agreementWith
  const tally = newTotals()
  const progress = showProgress({ stream: environment.stderr, tally })
  const captionsOf = (part: string, list: PictureBatch[]) => {
    const numbers = new Map(list.map((batch, number) => [batch, number]))
    const caption = async (batch: PictureBatch, schedule: Schedule) => {
      const key = `${part} ${numbers.get(batch)} ${scheduleKey(schedule)}`
      if (!state.has(key)) tally.captioned += batch.count
      return state.recall(key, async () => (await runBatch(run, batch, schedule)).captions)
    }
    const reference =
      calibrator.reference &&
      ((batch: PictureBatch) =>
        state.recall(`${part} ${numbers.get(batch)} float32`, () => calibrator.reference!(batch)))
    return comparison({ batches: list, layers: encoder.layers, caption, reference, agreement })
  }
  try {
    return await calibrateLevels({
      encoder,
      pictures,
      compare: {
        search: captionsOf('search', batches.search),
        heldOut: captionsOf('held-out', batches.heldOut),
      },
      levels: flags.levels,
      minExact: flags.minExact,
      measureSpeeds: (schedules) =>
        state.recall(`speed ${schedules.map(scheduleKey).join(' | ')}`, () => speedsOf(run, schedules)),
      onAhead: (captions) => {
        tally.total = finishedImages(tally) + captions
      },
    })
  } finally {
    progress.close()
  }
}

/** Measures the speed of schedules in full batches. */
export function speedsOf(run: CalibrationRun, schedules: readonly Schedule[]): Promise<Speed[]> {
  const { batches, calibrator } = run
  const full = filledUp(batches.search[0]!, calibrator.batch)
  return measureSpeeds(schedules, {
    images: calibrator.batch,
    run: async (schedule) => (await runBatch(run, full, schedule)).inferenceMs,
  })
}

/** Speeds in the format of the table. */
export const levelSpeeds = ({ device, batch }: Calibrator, speeds: readonly Speed[]): LevelSpeeds => ({
  at: new Date().toISOString(),
  device,
  batch,
  images_per_second: speeds.map(({ usual }) => Number(usual.toPrecision(4))),
})

async function runBatch({ calibrator, signal }: CalibrationRun, batch: PictureBatch, schedule: Schedule) {
  signal.throwIfAborted()
  return calibrator.run(batch, schedule)
}

/** Writes the table and its chart, and prints the table. @throws IncompleteError without a level beside the first */
async function write(run: CalibrationRun, result: CalibrationResult): Promise<void> {
  const { calibrator, flags, out, environment } = run
  const { encoder, id } = calibrator.model
  for (const dropped of result.dropped) printNote(environment.stderr, droppedLine(dropped))
  const [unpruned] = result.levels
  if (unpruned!.quality.exact < flags.minExact)
    throw new IncompleteError(
      `On ${calibrator.device} only ${percent(unpruned!.quality.exact)} of the unpruned captions are those of float32; nothing was written. Serve it with --precision float32.`,
    )
  if (result.levels.length === 1)
    throw new IncompleteError(
      `No faster schedule keeps ${flags.minExact} of the captions equal; nothing was written. Lower --min-exact.`,
    )
  const speed = levelSpeeds(
    calibrator,
    result.levels.map((level) => level.speed),
  )
  const { search, heldOut } = run.pictures
  const levels = result.levels.map(({ schedule, quality }) => ({ ...schedule, quality: rounded(quality) }))
  await writeLevelTable(out, {
    levels,
    calibration: {
      at: speed.at,
      search: searchVersion,
      device: calibrator.device,
      pictures: { search, held_out: heldOut },
      ...(calibrator.request && { asked: { ...calibrator.request } }),
      speed,
    },
  })
  const drawn = levels.map(({ r, quality }) => ({ flopShare: flopShare(encoder, r), quality }))
  const chart = levelsChart({ model: id, candidates: result.outcomes, levels: drawn })
  const svg = await drawSvg(chart)
  await replaceFile(join(out, chartFile), (path) => writeFile(path, svg))
  const rows = levels.map((level) => toLevel(level, encoder))
  environment.stdout.write(levelLines(rows, speed, calibrator))
  printNote(environment.stderr, `Wrote ${join(out, levelsFile)} and ${join(out, chartFile)}.`)
}

const rounded = ({ exact, cider }: LevelQuality): LevelQuality => ({
  exact: Number(exact.toFixed(4)),
  cider: Number(cider.toFixed(4)),
})

/** Table of levels: `level  tokens  merged  FLOPs  images/s  equal captions  CIDEr-D`; of a tagger, of tags. */
export function levelLines(
  levels: readonly PruneLevel[],
  { images_per_second: speeds }: LevelSpeeds,
  { tags = false }: Pick<Calibrator, 'tags'> = {},
): string {
  const quality = tags ? ['equal tags', 'tags in common'] : ['equal captions', 'CIDEr-D']
  const head = ['level', 'tokens', 'merged', 'FLOPs', 'images/s', ...quality]
  const rows = levels.map(({ tokensOut, pruneRatio, flopShare, quality }, level) => [
    `${level}`,
    `${tokensOut}`,
    formatShare(pruneRatio),
    formatShare(flopShare),
    formatRate(speeds[level]!),
    quality ? percent(quality.exact) : '',
    quality ? percent(quality.cider) : '',
  ])
  return formatTable([head, ...rows], { right: head.map((_, column) => column) })
}

/** `Dropped: 62 tokens, 38 % of FLOPs: agrees less than a harder level on held-out pictures (99.0 %).` */
export const droppedLine = ({ outcome, reason }: Dropped): string =>
  `Dropped: ${outcome.tokensOut} tokens, ${formatShare(outcome.flopShare)} of FLOPs: ${reason} ` +
  `(equal captions: ${percent(outcome.quality.exact)} when chosen, ${percent(outcome.heldOut.exact)} held out).`

/** Lines about the first unreadable pictures, and the number of others. */
export function unreadableLines(unreadable: readonly string[], shown = 5): string[] {
  const more = unreadable.length - shown
  return more > 0 ? [...unreadable.slice(0, shown), `... and ${more} more are unreadable.`] : [...unreadable]
}

/** With one decimal, since half a percent matters here. */
const percent = (share: number) => `${(100 * share).toFixed(1)} %`
