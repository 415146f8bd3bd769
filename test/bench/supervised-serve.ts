import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createKey } from '../../edge/accounts/api-keys.ts'
import { addGrants, changeTenant } from '../../edge/accounts/tenants.ts'
import type { Grant } from '../../edge/contract/tenant.ts'
import { openStores } from '../../infra/backends.ts'
import { loadConfig } from '../../infra/config.ts'
import { freePorts } from '../servers/tools.ts'
import type { LoopReport } from './event-loop-delay.ts'

const cli = fileURLToPath(new URL('../../processor/cli/main.ts', import.meta.url))
const delayReporter = new URL('./event-loop-delay.ts', import.meta.url).href

export interface SupervisedOptions {
  /** Settings beside the defaults. */
  env?: Record<string, string>
  /** Tenants, each with what it may read or write beside its own. */
  tenants: Record<string, Grant[]>
  /** Memory that the main thread's heap may have, MB, so that a service gone wild does not take the machine. */
  heapMb?: number
}

/** `turbine serve` that is started again at the same address whenever it dies, as an orchestrator does. */
export interface SupervisedServe {
  url: string
  /** Of each tenant. */
  apiKeys: Record<string, string>
  /** Of the process that runs now. */
  pid(): number | undefined
  /** How often it has died by itself. */
  readonly deaths: number
  /** Longest turn of its main thread's event loop since the call before, ms. */
  longestTurn(): Promise<{ wallMs: number; cpuMs: number }>
  close(): Promise<void>
}

/** Starts it on the CPU with an API key for each tenant, and resolves when it is ready. */
export async function startSupervised({
  env = {},
  tenants,
  heapMb = 4096,
}: SupervisedOptions): Promise<SupervisedServe> {
  const dataDir = await mkdtemp(join(tmpdir(), 'turbine-bench-hostile-'))
  const loopFile = join(dataDir, 'event-loop.jsonl')
  const [port] = await freePorts(1)
  const settings = { TURBINE_DATA_DIR: dataDir, TURBINE_DEVICE: 'cpu', TURBINE_PORT: String(port), ...env }
  const apiKeys = await createKeys(settings, tenants)
  const args = [`--max-old-space-size=${heapMb}`, '--import', delayReporter, cli, 'serve']
  let child: ChildProcess | undefined
  let deaths = 0
  let closing = false
  const start = async (): Promise<void> => {
    const started = spawn(process.execPath, args, {
      env: {
        ...process.env,
        TURBINE_LOG_LEVEL: 'error',
        TURBINE_SHUTDOWN_MS: '2000',
        ...settings,
        EVENT_LOOP_REPORT: loopFile,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    child = started
    const exited = once(started, 'exit')
    void exited.then(() => {
      if (closing) return
      deaths++
      return start()
    })
    await Promise.race([ready(started.stdout!), exited])
  }
  await start()
  let readUntil = Date.now()
  return {
    url: `http://127.0.0.1:${port}`,
    apiKeys,
    pid: () => (child?.exitCode === null && child.signalCode === null ? child.pid : undefined),
    get deaths() {
      return deaths
    },
    async longestTurn() {
      const now = Date.now()
      const reports = await reportsSince(loopFile, readUntil)
      readUntil = now
      // What has not reported for long is in a turn that has not ended.
      const silentMs = now - (reports.at(-1)?.at ?? now)
      return {
        wallMs: Math.max(0, silentMs - quietMs, ...reports.map(({ wallMs }) => wallMs)),
        cpuMs: Math.max(0, ...reports.map(({ cpuMs }) => cpuMs)),
      }
    },
    async close() {
      closing = true
      child!.kill('SIGTERM')
      // Whoever does not go is made to.
      const forced = setTimeout(() => child!.kill('SIGKILL'), 15_000)
      if (child!.exitCode === null && child!.signalCode === null) await once(child!, 'exit')
      clearTimeout(forced)
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** Between two reports at most, with the time that a file takes, ms. */
const quietMs = 200

async function reportsSince(path: string, since: number): Promise<LoopReport[]> {
  const text = await readFile(path, 'utf8').catch(() => '')
  const reports = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as LoopReport)
  return reports.filter(({ at }) => at >= since)
}

async function createKeys(
  env: Record<string, string>,
  tenants: SupervisedOptions['tenants'],
): Promise<Record<string, string>> {
  const { store, close } = await openStores(loadConfig({ env }).config)
  const keys: Record<string, string> = {}
  for (const [tenant, grants] of Object.entries(tenants)) {
    await changeTenant(store, tenant, (found) => addGrants(found, grants))
    keys[tenant] = (await createKey(store, { tenant, now: Date.now() })).key
  }
  await close()
  return keys
}

/** Resolves when it says so. What it prints later is read and dropped, so that the pipe does not fill. */
function ready(stdout: NodeJS.ReadableStream): Promise<void> {
  let printed = ''
  return new Promise((resolve) => {
    stdout.setEncoding('utf8').on('data', (text: string) => {
      if (printed.length < 10_000) printed += text
      if (/ready at (\S+)/.test(printed)) resolve()
    })
  })
}
