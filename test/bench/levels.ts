import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { levelsFile } from '../../processor/models/levels.ts'
import type { CaptionModel } from '../../processor/models/model.ts'
import { openModel } from '../../processor/models/open-model.ts'
import { flopShare } from '../../processor/turbo/flops.ts'
import { perLayer, type Schedule, semanticWeights } from '../../processor/turbo/schedule.ts'
import { printResult } from './measure.ts'
import { header, measureSettings, type Outcome, type Setting } from './quality.ts'
import { drawScenes } from './scenes.ts'

/** FLOPs of the encoder that the levels aim at, as a share of the unpruned one. */
const targets = [0.85, 0.7, 0.59, 0.49, 0.39, 0.32, 0.27]
/** How much fewer tokens merge from one layer to the next: 1 is the paper's constant r. */
const decays = [0.6, 0.75, 0.9]
/** Not those of the quality benchmark, so that the levels are confirmed on scenes they were not chosen by. */
const seed = 31_415

/**
 * Chooses the starter model's prune levels: for every target the schedule and the weights that keep the most captions
 * exact, of equal ones the first. With `write` they become the model's `turbine.json`.
 */
export async function chooseLevels({
  scenes: count,
  write,
}: {
  scenes: number
  write: boolean
}): Promise<void> {
  const model = await openModel(bundledModel)
  const scenes = await drawScenes(seed, count)
  const none = perLayer(0, model.encoder.layers)
  const candidates = targets.map((target) =>
    decays.flatMap((decay) => weighted(reaching(model, target, decay))),
  )
  console.log(`starter model, ${count} scenes to choose by\n${header}`)
  const measured = await measureSettings(model, scenes, candidates.flat())
  const outcomes = new Map(measured.map((outcome) => [outcome.schedule, outcome]))
  const chosen = candidates.map((group) => best(group.map(({ schedule }) => outcomes.get(schedule)!)))
  const levels: Schedule[] = [{ r: none, weight: none }, ...chosen.map(({ schedule }) => schedule)]
  printResult('levels', {
    scenes: count,
    chosen: chosen.map(({ note, flops, exact, tokensOut, schedule }) => ({
      note,
      flops,
      exact,
      tokens_out: tokensOut,
      r: schedule.r.join(','),
    })),
  })
  if (write) await writeFile(join(model.folder, levelsFile), `${JSON.stringify({ levels }, undefined, 1)}\n`)
}

/** The mildest schedule `r0 * decay^layer` whose FLOPs are at most the target. */
function reaching({ encoder }: CaptionModel, target: number, decay: number): number[] {
  const schedule = (first: number) =>
    Array.from({ length: encoder.layers }, (_, layer) => Math.round(first * decay ** layer))
  let first = 1
  while (flopShare(encoder, schedule(first)) > target && first < encoder.tokens / 2) first++
  return schedule(first)
}

/** A schedule with the weights that are worth trying on a small model. */
function weighted(r: number[]): Setting[] {
  const late = semanticWeights(r, { alpha: 0.3 }).map((weight, layer) => (layer < r.length / 2 ? 0 : weight))
  return [
    { mode: 'turbo', note: 'alpha 0.1', schedule: { r, weight: semanticWeights(r, { alpha: 0.1 }) } },
    { mode: 'turbo', note: 'late 0.3', schedule: { r, weight: late } },
  ]
}

const best = (outcomes: Outcome[]) => outcomes.reduce((a, b) => (b.exact > a.exact ? b : a))
