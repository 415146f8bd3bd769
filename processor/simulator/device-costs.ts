import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { CostModel, type CostSample } from '../scheduling/cost-model.ts'
import type { Level } from '../scheduling/level.ts'
import { SimulationInputError } from './errors.ts'

/** Measured costs of a processor with one device. Times are ms. */
export interface DeviceCosts {
  /** Description of what was measured. */
  device: string
  /** The model's prune levels, ascending. */
  levels: readonly Level[]
  /** Batch sizes, ascending. */
  buckets: readonly number[]
  /** Runs of single cells; what lies between is interpolated as the cost model does it. */
  samples: readonly CostSample[]
  /** Samples that seed a processor's cost model, as its calibration measured them; default: `samples`. */
  seeds?: readonly CostSample[]
  /** Captions of a model that makes them step by step; `samples` have their steps then. Default: a run is all there is. */
  text?: TextCosts | undefined
  /** From the caller to the processor: HTTP and the stream. */
  ingestMs: number
  /** Decoding of one image; 0 if negligible. */
  decodeMs: number
  /** Images decoded in parallel. */
  decoders: number
  /** From the end of the run to the caller: result and reply. */
  overheadMs: number
}

/** Texts that are made step by step. */
export interface TextCosts {
  /** Time of a step, for each batch size. */
  stepMs: readonly number[]
  /** Ids of captions: each is as long as one of these, as likely as any other, and says so with its `max_tokens`. */
  lengths: readonly number[]
  /** Whether rows join batches that run. */
  joining: boolean
}

const ms = z.number().positive()
const share = z.number().min(0).max(1)

/** A cost table as a file holds it. */
const fileSchema = z
  .object({
    device: z.string().default('unknown device'),
    buckets: z.array(z.int().positive()).min(1),
    levels: z
      .array(
        z.object({
          pruneRatio: share,
          relativeCost: z.number().positive().max(1).optional(),
          exact: share.optional(),
          ms: z.array(ms),
        }),
      )
      .min(1),
    text: z
      .object({
        stepMs: z.array(ms),
        lengths: z.array(z.int().positive()).min(1),
        joining: z.boolean().default(true),
      })
      .optional(),
    ingestMs: z.number().nonnegative().default(0),
    decodeMs: z.number().nonnegative().default(0),
    decoders: z.int().positive().default(1),
    overheadMs: z.number().nonnegative().default(0),
  })
  .refine(({ buckets }) => buckets.every((bucket, i) => i === 0 || bucket > buckets[i - 1]!), {
    message: 'buckets must ascend',
  })
  .refine(({ levels, buckets }) => levels.every((level) => level.ms.length === buckets.length), {
    message: 'each level needs as many "ms" as there are buckets',
  })
  .refine(({ text, buckets }) => !text || text.stepMs.length === buckets.length, {
    message: 'text needs as many "stepMs" as there are buckets',
  })
  .refine(
    ({ levels }) => levels.every(({ pruneRatio }, i) => pruneRatio >= (levels[i - 1]?.pruneRatio ?? 0)),
    { message: 'levels must ascend in pruneRatio' },
  )
  .refine(({ levels }) => levels[0]?.pruneRatio === 0, {
    message: 'the first level must be the unpruned model, pruneRatio 0',
  })

export type CostTable = z.input<typeof fileSchema>

/** Bundled tables, measured on real devices. */
export const presets = {
  'starter-cpu': new URL('./costs/starter-cpu.json', import.meta.url),
} as const

/**
 * Reads a bundled cost table by name, or a file of `--measure`.
 * @throws SimulationInputError
 */
export async function readDeviceCosts(nameOrFile: string): Promise<DeviceCosts> {
  const file = presets[nameOrFile as keyof typeof presets] ?? nameOrFile
  let json: unknown
  try {
    json = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    throw new SimulationInputError(
      `The cost table ${nameOrFile} cannot be read. Use ${Object.keys(presets).join(', ')}, or a file of --measure.`,
      { cause },
    )
  }
  return parseDeviceCosts(json, nameOrFile)
}

/** @throws SimulationInputError that names the field and what is wrong with it */
export function parseDeviceCosts(table: unknown, name: string): DeviceCosts {
  const parsed = fileSchema.safeParse(table)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const field = issue?.path.join('.') || 'the table'
    throw new SimulationInputError(
      `Invalid cost table ${name}: ${field}: ${issue?.message}. Fix it, or measure one with --measure.`,
    )
  }
  const { levels, buckets, text, ...rest } = parsed.data
  const unpruned = levels[0]!.ms.at(-1)!
  return {
    ...rest,
    text,
    buckets,
    levels: levels.map(({ pruneRatio, exact, ms, relativeCost = ms.at(-1)! / unpruned }) => ({
      pruneRatio,
      relativeCost,
      exact,
    })),
    samples: levels.flatMap((level, index) =>
      level.ms.map((ms, i) => sampleOf({ bucket: buckets[i]!, level: index, ms }, text?.stepMs[i], text)),
    ),
  }
}

/** A sample with the steps of a caption of mean length. */
function sampleOf(first: CostSample, stepMs: number | undefined, text: TextCosts | undefined): CostSample {
  if (!text || stepMs === undefined) return first
  const steps = text.lengths.reduce((sum, ids) => sum + ids - 1, 0) / text.lengths.length
  return { ...first, ms: first.ms + steps * stepMs, steps, stepsMs: steps * stepMs }
}

/** The same device, but this many times faster at runs. Decoding and the way to and from it are not the device's. */
export function timesFaster(costs: DeviceCosts, speed: number): DeviceCosts {
  if (speed === 1) return costs
  return {
    ...costs,
    device: `${speed} times as fast as ${costs.device}`,
    samples: costs.samples.map(({ stepsMs, ...sample }) => ({
      ...sample,
      ms: sample.ms / speed,
      ...(stepsMs !== undefined && { stepsMs: stepsMs / speed }),
    })),
  }
}

/** Images per second that one processor can serve at its best batch size. */
export interface Capacity {
  /** Unpruned, and with all the pruning that pays. */
  full: number
  pruned: number
  /** As many as its decoders supply: neither is more. */
  decoding: number
}

export function capacityOf(costs: DeviceCosts): Capacity {
  const msPerImage = new CostModel(costs).fastestUpTo()
  const decoding = (1000 * costs.decoders) / costs.decodeMs
  const rate = (ms: number) => Math.min(decoding, 1000 / ms)
  return { full: rate(msPerImage[0]!), pruned: rate(msPerImage.at(-1)!), decoding }
}
