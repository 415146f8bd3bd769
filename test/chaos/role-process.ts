import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { apart, endWithThisProcess } from '../servers/tools.ts'
import type { Role } from './plan.ts'

const dockerfile = new URL('../../infra/deploy/Dockerfile', import.meta.url)

/** What the container sets for the allocator, so that memory goes back to the system. */
const containerMalloc: Record<string, string> = Object.fromEntries(
  [...readFileSync(dockerfile, 'utf8').matchAll(/\b(MALLOC_\w+)=(\S+)/g)].map(([, name, value]) => [
    name,
    value,
  ]),
)

const cli = fileURLToPath(new URL('../../processor/cli/main.ts', import.meta.url))

/** One of the processes of a fleet that runs. */
export interface RoleProcess {
  pid: number
  url: string
  signal(signal: NodeJS.Signals): void
  /** How it ended, once everything that it printed is in its log. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

export interface RoleProcessOptions {
  role: Role
  /** E.g. `processor-0`: of its log, which grows over restarts. */
  name: string
  env: Record<string, string>
  /** Of the logs. */
  folder: string
}

/** A role that ended before it was ready. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

/**
 * Starts a role on the CPU, and resolves when it is ready. The signal ends the start.
 * @throws StartError when it ends before
 */
export async function startRoleProcess(
  options: RoleProcessOptions,
  signal: AbortSignal,
): Promise<RoleProcess> {
  const { role, name, env, folder } = options
  const child = spawn(process.execPath, [cli, role], {
    env: { ...neutralEnv(), ...containerMalloc, ...env },
    ...apart,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  endWithThisProcess(child)
  const log = createWriteStream(join(folder, `${name}.log`), { flags: 'a' })
  log.write(`--- ${new Date().toISOString()} started as process ${child.pid}\n`)
  child.stderr.on('data', (bytes: Buffer) => log.write(bytes))
  let printed = ''
  const ready = Promise.withResolvers<string>()
  child.stdout.on('data', (bytes: Buffer) => {
    log.write(bytes)
    if (printed.length < 10_000) printed += bytes.toString()
    const [, url] = /is ready at (http:\S+)/.exec(printed) ?? []
    if (url) ready.resolve(url)
  })
  const exited = once(child, 'close').then(([code, signal]) => {
    log.end(`--- ${new Date().toISOString()} ended with ${signal ?? code}\n`)
    return { code: code as number | null, signal: signal as NodeJS.Signals | null }
  })
  const kill = () => void child.kill('SIGKILL')
  if (signal.aborted) kill()
  signal.addEventListener('abort', kill)
  const url = await Promise.race([
    ready.promise,
    exited.then(({ code, signal }) =>
      Promise.reject(new StartError(`${name} ended with ${signal ?? code} before it was ready.`)),
    ),
  ]).finally(() => signal.removeEventListener('abort', kill))
  return { pid: child.pid!, url, signal: (signal) => void child.kill(signal), exited }
}

/** Without the settings of whoever runs the suite. */
function neutralEnv(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/^(TURBINE|KAFKA|S3|AWS)_/.test(name))
  return { ...Object.fromEntries(own), TURBINE_DEVICE: 'cpu' }
}
