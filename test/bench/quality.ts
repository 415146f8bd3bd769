import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { type BlipModel, openBlip } from '../../processor/models/blip.ts'
import type { GraphOptions } from '../../processor/models/model.ts'
import { flopShare } from '../../processor/turbo/flops.ts'
import {
  perLayer,
  type Schedule,
  semanticWeights,
  type TurboMode,
  tokenCounts,
} from '../../processor/turbo/schedule.ts'
import { printResult } from './measure.ts'
import { type DrawnScenes, drawScenes } from './scenes.ts'
import { openBareSession } from './session.ts'

interface Setting {
  mode: TurboMode
  /** Description of the weight. */
  note: string
  schedule: Schedule
}

interface Outcome extends Setting {
  tokensOut: number
  flops: number
  /** Share of exact captions. */
  exact: number
}

const batch = 16
/** Merged per layer: the paper's constant r, and one schedule that merges early. */
const compared = [perLayer(8, 12), perLayer(14, 12), [40, 30, 20, 15, 10, 8, 6, 4, 2, 0, 0, 0]]
/** The semantic weight that suits the starter model; the paper's is 5. */
const starterAlpha = 0.1
const seed = 20_261

/**
 * Exact captions of the starter model on held-out scenes, the same scenes for every setting: schedules and modes, and
 * the model's own prune levels, which were chosen on other scenes.
 */
export async function benchQuality({ scenes: count }: { scenes: number }): Promise<void> {
  const model = await openBlip(bundledModel)
  const scenes = await drawScenes(seed, count)
  const r0 = perLayer(0, model.encoder.layers)
  const none: Setting = { mode: 'tome', note: 'none', schedule: { r: r0, weight: r0 } }
  const levels = model.levels
    .slice(1)
    .map((schedule, i): Setting => ({ mode: 'turbo', note: `level ${i + 1}`, schedule }))
  console.log(`starter model, ${count} held-out scenes\n${header}`)
  const measured = await measureSettings(model, scenes, [none, ...levels, ...comparisons(model)])
  const baseline = measured[0]!
  const lossAt = (saved: number) => {
    const reached = measured.filter(({ note, flops }) => note.startsWith('level') && flops <= 1 - saved)
    return reached[0] && baseline.exact - reached[0].exact
  }
  printResult('quality', {
    scenes: count,
    exact_r0: baseline.exact,
    loss_at_40_percent: lossAt(0.4),
    loss_at_60_percent: lossAt(0.6),
    levels: measured
      .slice(0, 1 + levels.length)
      .map(({ tokensOut, flops, exact }) => ({ tokens_out: tokensOut, flops, exact })),
    against: comparisonsAtEqualFlops(measured),
  })
}

/** Every mode at the same schedules; the two highest levels' are among them. */
function comparisons({ encoder: { layers }, levels }: BlipModel): Setting[] {
  const none = perLayer(0, layers)
  const byMode = [...compared, ...levels.slice(-2).map(({ r }) => r)].flatMap((r): Setting[] => [
    turbo(r, starterAlpha),
    { mode: 'tome', note: '', schedule: { r, weight: none } },
    { mode: 'attention', note: '', schedule: { r, weight: none } },
    { mode: 'random', note: '', schedule: { r, weight: none } },
  ])
  return [...byMode, turbo(compared[0]!, 5)]
}

const turbo = (r: number[], alpha: number): Setting => ({
  mode: 'turbo',
  note: `alpha ${alpha}`,
  schedule: { r, weight: semanticWeights(r, { alpha }) },
})

const header = `${'mode'.padEnd(10)}${'setting'.padEnd(12)}${'tokens'.padStart(6)}${'FLOPs'.padStart(8)}${'exact'.padStart(9)}  r`

/** Measures settings, one session for each kind of graph, and prints a line for each. */
async function measureSettings(
  model: BlipModel,
  scenes: DrawnScenes,
  settings: Setting[],
): Promise<Outcome[]> {
  const imageBytes = scenes.pixels.length / scenes.captions.length
  const outcomes = new Map<Setting, Outcome>()
  const graphOf = ({ mode }: Setting): NonNullable<GraphOptions['mode']> => (mode === 'tome' ? 'turbo' : mode)
  for (const [mode, group] of Map.groupBy(settings, graphOf)) {
    const session = await openBareSession(model, { mode })
    for (const setting of group) {
      let exact = 0
      for (let at = 0; at < scenes.captions.length; at += batch) {
        const pixels = scenes.pixels.subarray(at * imageBytes, (at + batch) * imageBytes)
        const captions = (await session.caption(pixels, setting.schedule)).map(model.decode)
        exact += captions.filter((caption, i) => caption === scenes.captions[at + i]).length
      }
      const { r } = setting.schedule
      const outcome = {
        ...setting,
        tokensOut: tokenCounts(model.encoder.tokens, r).at(-1)!,
        flops: flopShare(model.encoder, r),
        exact: exact / scenes.captions.length,
      }
      outcomes.set(setting, outcome)
      console.log(line(outcome))
    }
    await session.close()
  }
  return settings.map((setting) => outcomes.get(setting)!)
}

function line({ mode, note, tokensOut, flops, exact, schedule }: Outcome): string {
  const numbers = `${String(tokensOut).padStart(6)}${flops.toFixed(3).padStart(8)}${exact.toFixed(4).padStart(9)}`
  return `${mode.padEnd(10)}${note.padEnd(12)}${numbers}  ${schedule.r.join(',')}`
}

/** For every schedule what each mode kept. */
function comparisonsAtEqualFlops(outcomes: Outcome[]) {
  const others = outcomes.filter(({ note }) => note !== 'none' && !note.startsWith('level'))
  return [...Map.groupBy(others, ({ schedule }) => schedule.r.join(','))].map(([r, group]) => ({
    r,
    flops: group[0]!.flops,
    ...Object.fromEntries(group.map(({ mode, note, exact }) => [note ? `${mode} ${note}` : mode, exact])),
  }))
}
