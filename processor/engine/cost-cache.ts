import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { availableParallelism, cpus, hostname } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { privateDirectory, privateFile } from '../../infra/durable.ts'
import type { CostSample } from '../scheduling/cost-model.ts'
import { type IdentifiedModel, modelIdentity } from './model-identity.ts'

/** File of run times measured at an earlier start. */
export interface CostCache {
  /** Undefined when there is nothing, or nothing that can be read. */
  read(): Promise<CostSample[] | undefined>
  write(samples: CostSample[]): Promise<void>
}

export interface CostCacheOptions {
  /** Created when missing. */
  folder: string
  model: IdentifiedModel
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
export async function openCostCache(options: CostCacheOptions): Promise<CostCache> {
  const { folder, model, device, buckets, settings } = options
  const machine = [hostname(), cpus()[0]?.model, availableParallelism()]
  const file = join(folder, `${await modelIdentity(model, { machine, device, buckets, settings })}.json`)
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
