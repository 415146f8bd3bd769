import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { availableParallelism, cpus, hostname } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { privateDirectory, privateFile } from '../../infra/durable.ts'
import type { CaptionModel } from '../models/model.ts'
import type { CostSample } from '../scheduling/cost-model.ts'

/** File of run times measured at an earlier start. */
export interface CostCache {
  /** Undefined when there is nothing, or nothing that can be read. */
  read(): Promise<CostSample[] | undefined>
  write(samples: CostSample[]): Promise<void>
}

export interface CostCacheOptions {
  /** Created when missing. */
  folder: string
  model: Pick<CaptionModel, 'id' | 'folder' | 'levels' | 'encoder' | 'weightFiles'>
  /** Name of the device, e.g. `cpu`. */
  device: string
  buckets: number[]
  /** Further settings that change how long a run takes. */
  settings: Record<string, unknown>
}

const samplesSchema = z
  .array(
    z.object({
      bucket: z.int().min(1),
      level: z.int().min(0),
      ms: z.number().positive(),
      steps: z.number().nonnegative().optional(),
      stepsMs: z.number().nonnegative().optional(),
    }),
  )
  .min(1)

/**
 * Opens the file of run times for a model, device and version: a restart on the same machine with the same weights, levels
 * and version of ONNX Runtime finds it.
 */
export async function openCostCache({ folder, ...measured }: CostCacheOptions): Promise<CostCache> {
  const file = join(folder, `${await nameOf(measured)}.json`)
  return {
    async read() {
      try {
        return samplesSchema.parse(JSON.parse(await readFile(file, 'utf8')))
      } catch {
        return undefined
      }
    },
    async write(samples) {
      await mkdir(folder, { recursive: true, mode: privateDirectory })
      const part = `${file}.${randomUUID()}`
      await writeFile(part, JSON.stringify(samples), { mode: privateFile })
      await rename(part, file)
    },
  }
}

async function nameOf({
  model,
  device,
  buckets,
  settings,
}: Omit<CostCacheOptions, 'folder'>): Promise<string> {
  const weights = await Promise.all(model.weightFiles.map((file) => stat(join(model.folder, file))))
  const schedules = model.levels.map(({ r, weight }) => ({ r, weight }))
  const identity = {
    model: [model.id, model.encoder, schedules, ...weights.flatMap(({ size, mtimeMs }) => [size, mtimeMs])],
    machine: [hostname(), cpus()[0]?.model, availableParallelism(), device],
    runtime: [createRequire(import.meta.url)('onnxruntime-node/package.json').version, buckets, settings],
  }
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 32)
}
