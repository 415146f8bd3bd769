import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const cli = fileURLToPath(new URL('../../../processor/cli/main.ts', import.meta.url))

export interface PipelineRun {
  model: string
  photos: string
  device: string
  level: number
  /** Most images of a batch. */
  batch: number
}

/** Share of the images that are captioned before the rate is taken: batches and memory grow in them. */
const warmUp = 0.25

/**
 * Images per second of `turbine caption` over a folder, files to captions, once it runs.
 * @throws Error with the end of what the command said when it failed
 */
export async function pipelineRate({ model, photos, device, level, batch }: PipelineRun): Promise<number> {
  const dataDir = await mkdtemp(join(tmpdir(), 'turbine-gpu-'))
  const args = ['caption', photos, '--model', model, '--device', device, '--level', `${level}`, '--out', '-']
  const env = { ...process.env, TURBINE_DATA_DIR: dataDir, TURBINE_MAX_BATCH: `${batch}` }
  const child = spawn(process.execPath, [cli, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk).slice(-2000)
  })
  const exited = once(child, 'close')
  const times: number[] = []
  for await (const _ of createInterface({ input: child.stdout })) times.push(performance.now())
  const [code] = await exited
  await rm(dataDir, { recursive: true })
  if (code !== 0) throw new Error(said.trim())
  return rateOf(times, warmUp)
}

/** Events per second of those behind the first share. */
export function rateOf(times: readonly number[], share: number): number {
  const first = Math.floor(share * (times.length - 1))
  return (1000 * (times.length - 1 - first)) / (times.at(-1)! - times[first]!)
}
