import { availableParallelism } from 'node:os'
import { blipParity, openBlipSubject, tinyBlip } from './families/blip.ts'
import { largeFolder } from './families/folders.ts'
import { type Parity, parityOf, tinyFolder } from './families/parity.ts'
import { openSubject, type Subject } from './families/subject.ts'
import { benchFolder } from './folders.ts'
import { interleave, median, printResult, speedup } from './measure.ts'
import { randomBlip } from './random-blip.ts'

export interface FamiliesOptions {
  rounds: number
  /** By the names of their tiny models. */
  families: string[]
  batches: number[]
  /** Ids of each caption. */
  ids: number
  /** Makes the folders, where they are not there. */
  python: string
  /** Times the tiny models, which says nothing. */
  tiny?: boolean
}

/** What was measured of a family at a batch size: images/s, and medians of ratios round by round. */
interface Timed {
  batch: number
  loop: number
  pruned?: number
  steps: number
  package?: number
  loopOverSteps: number
  overTransformersJs?: number
  textOverSteps?: number
  sameIds: boolean
}

/**
 * Of each family: whether its tiny model gives the ids of `transformers`, the tokens of its levels, and its rate from pixels to
 * ids at full quality, against the same files driven step by step and against transformers.js one picture at a time.
 */
export async function benchFamilies(options: FamiliesOptions): Promise<void> {
  const names = options.families
  const parity: Record<string, string> = {}
  const tokens: Record<string, { in: number; out: number[] }> = {}
  const times: Record<string, Timed[]> = {}
  let timedTiny = options.tiny === true
  for (const name of names) {
    const isBlip = name === 'blip'
    const oneThread = { intraOpNumThreads: 1 }
    parity[name] = partOf(await (isBlip ? blipParity(oneThread) : parityOf(name, oneThread)))
    const large = options.tiny ? { why: 'as asked' } : await largeOf(name, options.python)
    if ('why' in large && !options.tiny) {
      timedTiny = true
      console.log(`${name}: times of a tiny model, which say nothing: ${large.why}`)
    }
    const tiny = isBlip ? tinyBlip : tinyFolder(name)
    const open = isBlip ? openBlipSubject : openSubject
    const subject = await open('folder' in large ? large.folder : tiny, {
      threads: availableParallelism(),
      most: Math.max(...options.batches),
      ids: options.ids,
    })
    const { encoder, levels } = subject.model
    tokens[name] = { in: encoder.tokens, out: levels.map(({ tokensOut }) => tokensOut) }
    times[name] = []
    for (const batch of options.batches) times[name].push(await timed(subject, batch, options.rounds))
    await subject.close()
    printFamily(name, { parity: parity[name], tokens: tokens[name], times: times[name] })
  }
  const table = (field: 'loopOverSteps' | 'overTransformersJs' | 'textOverSteps') =>
    Object.fromEntries(
      names.map((name) => [
        name,
        Object.fromEntries(times[name]!.map((each) => [each.batch, each[field] ?? null])),
      ]),
    )
  printResult('families', {
    parity,
    tokens,
    loop_over_steps: table('loopOverSteps'),
    text_over_steps: table('textOverSteps'),
    over_transformers_js: table('overTransformersJs'),
    images_per_second: Object.fromEntries(
      names.map((name) => [
        name,
        times[name]!.map(({ batch, loop, pruned, steps, package: peer }) => ({
          batch,
          loop,
          highest_level: pruned ?? null,
          steps,
          transformers_js: peer ?? null,
        })),
      ]),
    ),
    same_ids: Object.fromEntries(names.map((name) => [name, times[name]!.every(({ sameIds }) => sameIds)])),
    tiny: timedTiny,
    rounds: options.rounds,
  })
}

/** BLIP's is made without Python. */
const largeOf = async (name: string, python: string) =>
  name === 'blip' ? { folder: await randomBlip(benchFolder) } : largeFolder(name, python)

const partOf = ({ equal, cases }: Parity) => `${equal}/${cases}`

async function timed(subject: Subject, batch: number, rounds: number): Promise<Timed> {
  const { model, package: peer } = subject
  const highest = model.levels.length - 1
  const made: Record<string, number[][]> = {}
  const keep = (name: string, run: () => Promise<number[][]>) => async () => {
    made[name] = await run()
  }
  const cases: Record<string, () => Promise<unknown>> = {
    loop: keep('loop', () => subject.loop(batch, 0)),
    steps: keep('steps', () => subject.steps(batch)),
    ...(peer && { package: keep('package', () => peer(batch)) }),
    ...(highest > 0 && { pruned: () => subject.loop(batch, highest) }),
    vision: () => subject.originalVision(batch),
  }
  const times = await interleave(cases, rounds)
  const rate = (name: string) => (times[name] ? (1000 * batch) / median(times[name]) : undefined)
  const text = (name: string) => times[name]!.map((time, round) => time - times.vision![round]!)
  const isTagger = model.runner.kind === 'tagger'
  return {
    batch,
    loop: rate('loop')!,
    pruned: rate('pruned'),
    steps: rate('steps')!,
    package: rate('package'),
    loopOverSteps: speedup(times.steps!, times.loop!),
    ...(times.package && { overTransformersJs: speedup(times.package, times.loop!) }),
    ...(!isTagger && { textOverSteps: speedup(text('steps'), text('loop')) }),
    sameIds: Object.values(made).every((ids) => JSON.stringify(ids) === JSON.stringify(made.loop)),
  }
}

const columns = [
  'batch',
  'Turbine',
  'highest level',
  'steps',
  'transformers.js',
  'over steps',
  'over t.js',
  'text over steps',
]

function printFamily(
  name: string,
  { parity, tokens, times }: { parity: string; tokens: { in: number; out: number[] }; times: Timed[] },
): void {
  const ids = times.every(({ sameIds }) => sameIds) ? 'all three give the same ids' : 'IDS DIFFER'
  console.log(
    `\n${name}: parity ${parity}, tokens ${tokens.in} to ${tokens.out.join(', ')}; images/s, ${ids}`,
  )
  if (times.every((each) => each.package === undefined)) console.log('transformers.js cannot load it')
  const line = (cells: (string | number | undefined)[]) =>
    cells
      .map((cell) => (typeof cell === 'number' ? cell.toPrecision(3) : (cell ?? '-')).padStart(16))
      .join('')
  console.log(line(columns))
  for (const each of times)
    console.log(
      line([
        `${each.batch}`,
        each.loop,
        each.pruned,
        each.steps,
        each.package,
        each.loopOverSteps,
        each.overTransformersJs,
        each.textOverSteps,
      ]),
    )
}
