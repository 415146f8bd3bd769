import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { benchFolder } from './folders.ts'
import { median, printResult } from './measure.ts'
import { type BlipSizes, blipBase, randomBlip } from './random-blip.ts'

const cli = fileURLToPath(new URL('../../processor/cli/main.ts', import.meta.url))

export interface StartBenchOptions {
  rounds: number
  /** Of the model beside the starter; default BLIP-base's. */
  sizes?: BlipSizes
}

/** Seconds from the command to a service that is ready, warm-up caption included, and its resident memory then. */
export async function benchStart({ rounds, sizes = blipBase }: StartBenchOptions): Promise<void> {
  const folders = { starter: bundledModel, base: await randomBlip(benchFolder, sizes) }
  const starts: Record<keyof typeof folders, Start[]> = { starter: [], base: [] }
  for (let round = 0; round < rounds; round++)
    for (const name of ['starter', 'base'] as const) starts[name].push(await startOnce(folders[name]))
  const seconds = (name: keyof typeof folders) => median(starts[name].map((start) => start.seconds))
  const memory = (name: keyof typeof folders) => median(starts[name].map((start) => start.residentMb))
  for (const name of ['starter', 'base'] as const)
    console.log(
      `${name.padEnd(8)} ready in ${seconds(name).toFixed(1)} s, ${memory(name).toFixed(0)} MB resident`,
    )
  printResult('start', {
    starter_seconds: seconds('starter'),
    starter_rss_mb: memory('starter'),
    base_seconds: seconds('base'),
    base_rss_mb: memory('base'),
    rounds,
  })
}

interface Start {
  seconds: number
  residentMb: number
}

async function startOnce(model: string): Promise<Start> {
  const dataDir = await mkdtemp(join(tmpdir(), 'turbine-start-'))
  const begin = performance.now()
  const child = spawn(
    process.execPath,
    [cli, 'serve', '--port', '0', '--model', model, '--data-dir', dataDir],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const exited = new Promise((resolve) => child.once('exit', resolve))
  try {
    await Promise.race([
      new Promise((resolve) => child.stdout.once('data', resolve)),
      exited.then(() => Promise.reject(new Error('the service did not start'))),
    ])
    const seconds = (performance.now() - begin) / 1000
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8')
    return { seconds, residentMb: Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024 }
  } finally {
    child.kill('SIGTERM')
    await exited
    await rm(dataDir, { recursive: true })
  }
}
