import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const cli = fileURLToPath(new URL('../../processor/cli/main.ts', import.meta.url))

/** A whole service in a process of its own, with a data folder of its own. */
export interface ServeProcess {
  url: string
  pid: number
  /** Its metrics as they are now, in Prometheus' text format. */
  metrics(): Promise<string>
  close(): Promise<void>
}

/**
 * Starts `turbine serve` on the CPU with these settings beside the defaults, and resolves when it is ready.
 * @example const service = await startServe({ TURBINE_PRUNING: 'off' })
 */
export async function startServe(env: Record<string, string> = {}): Promise<ServeProcess> {
  const dataDir = await mkdtemp(join(tmpdir(), 'turbine-bench-serve-'))
  const args = [cli, 'serve', '--port', '0', '--device', 'cpu', '--data-dir', dataDir]
  const child = spawn(process.execPath, args, {
    env: { ...process.env, TURBINE_LOG_LEVEL: 'warn', TURBINE_SHUTDOWN_MS: '1000', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  const close = async () => {
    child.kill('SIGTERM')
    await exited
    await rm(dataDir, { recursive: true })
  }
  try {
    const url = await Promise.race([
      printedUrl(child.stdout.setEncoding('utf8')),
      exited.then(([code]) =>
        Promise.reject(new Error(`the service ended with ${code} before it was ready`)),
      ),
    ])
    const metrics = async () => (await fetch(`${url}/metrics`)).text()
    return { url, pid: child.pid!, metrics, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function printedUrl(stdout: AsyncIterable<string>): Promise<string> {
  let printed = ''
  for await (const text of stdout) {
    printed += text
    const url = /ready at (\S+)/.exec(printed)?.[1]
    if (url) return url
  }
  throw new Error('the service exited before it was ready')
}
