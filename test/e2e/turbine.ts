import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { afterAll } from 'vitest'

const cli = fileURLToPath(new URL('../../processor/cli/main.ts', import.meta.url))

/** How a process ended: with an exit code, or by a signal. */
interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

/** A `turbine` command that runs. */
export interface Turbine {
  pid: number
  stdin: Writable
  /** What it has printed so far. */
  readonly stdout: string
  readonly stderr: string
  /** Resolves when it has ended and everything that it printed is here. */
  exited: Promise<Exit>
  kill(signal: NodeJS.Signals): void
  /** Resolves with the match when standard output has it; rejects when the process ends before. */
  prints(pattern: RegExp): Promise<RegExpExecArray>
}

export interface TurbineOptions {
  env?: Record<string, string>
  /** Working folder; default: this process's. */
  cwd?: string
}

const running = new Set<ChildProcess>()
const folders: string[] = []

// Whatever a test has left behind, also one that failed halfway.
afterAll(async () => {
  await Promise.all([...running].map(killAtOnce))
  for (const folder of folders) await rm(folder, { recursive: true })
})

/** A folder that is removed after the file's tests. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'turbine-e2e-'))
  folders.push(folder)
  return folder
}

/** Starts a command in a process of its own, on the CPU and without the settings of whoever runs the tests. */
export function startTurbine(args: string[], { env = {}, cwd }: TurbineOptions = {}): Turbine {
  const child = spawn(process.execPath, [cli, ...args], {
    cwd,
    env: { ...neutralEnv(), ...env },
  })
  running.add(child)
  const printed = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text) => {
    printed.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    printed.stderr += text
  })
  const exited = new Promise<Exit>((resolve) => {
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve({ code, signal })
    })
  })
  return {
    pid: child.pid!,
    stdin: child.stdin,
    get stdout() {
      return printed.stdout
    },
    get stderr() {
      return printed.stderr
    },
    exited,
    kill: (signal) => child.kill(signal),
    prints: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(printed.stdout)
          if (!match) return
          child.stdout.off('data', look)
          resolve(match)
        }
        child.stdout.on('data', look)
        look()
        exited.then(({ code }) =>
          reject(new Error(`turbine ended with ${code} before it printed ${pattern}: ${printed.stderr}`)),
        )
      }),
  }
}

/** Runs a command to its end. */
export async function runTurbine(args: string[], options?: TurbineOptions) {
  const turbine = startTurbine(args, options)
  const exit = await turbine.exited
  return { ...exit, stdout: turbine.stdout, stderr: turbine.stderr }
}

function neutralEnv(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/^(TURBINE|KAFKA|S3|AWS)_/.test(name))
  return { ...Object.fromEntries(own), TURBINE_DEVICE: 'cpu' }
}

async function killAtOnce(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('close', resolve))
  child.kill('SIGKILL')
  await ended
}
