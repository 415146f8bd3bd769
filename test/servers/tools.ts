import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/** Whether the command is on the path. */
export function hasCommand(name: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Where what was downloaded for tests stays from run to run. */
export function cacheFolder(name: string): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'turbine', name)
}

export interface RunOptions {
  cwd?: string
  env?: NodeJS.ProcessEnv
}

/** Runs a command to its end; what it printed. Rejects with its error output when it fails. */
export async function run(command: string, args: string[], options: RunOptions = {}): Promise<string> {
  const { stdout } = await execute(command, args, { ...options, maxBuffer: 16 * 1024 * 1024 })
  return stdout
}

/** Loopback ports that are free now, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, listen))
  const ports = servers.map(portOf)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

function listen(): Promise<Server> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', () => resolve(server))
  })
}

function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The server has no port.')
  return address.port
}

/**
 * Options for a server of this process: in a process group of its own it does not hear Ctrl-C, so that whoever started
 * it can end it in order.
 */
export const apart = { detached: true } as const

/** However this process ends, its end of the pipe closes, and the shell behind it ends the server. */
export function endWithThisProcess(child: ChildProcess): void {
  const script = 'cat > /dev/null; kill -9 "$0"'
  const watch = spawn('sh', ['-c', script, String(child.pid)], {
    ...apart,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  child.once('exit', () => watch.kill('SIGKILL'))
}
