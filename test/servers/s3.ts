import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { canInstall, type GoTool, installGoTool } from './go-tools.ts'
import { apart, endWithThisProcess, freePorts } from './tools.ts'

/** How an S3 server is reached. */
export interface S3Access {
  endpoint: string
  accessKeyId: string
  secretAccessKey: string
}

/** A real S3 server for tests: versitygw on a temporary folder. */
export interface S3Server extends S3Access {
  createBucket(name: string): Promise<void>
  /** Ends it as an operator does. */
  stop(): Promise<void>
  /** Ends it as a power loss does. */
  kill(): Promise<void>
  /** Again, at the same address and with the same data. */
  start(): Promise<void>
  /** Lets it answer nothing until `thaw`, with its connections open. */
  freeze(): void
  thaw(): void
  /** Ends it and removes its data. */
  dispose(): Promise<void>
}

export interface S3ServerOptions {
  /** Where it keeps its data; default: a temporary folder. It has to know extended attributes. */
  folder?: string
}

const versitygw: GoTool = {
  name: 'versitygw',
  package: 'github.com/versity/versitygw/cmd/versitygw',
  version: 'v1.8.0',
}
const credentials = { accessKeyId: 'turbine', secretAccessKey: 'turbine-test-secret' }
const readyWithinMs = 20_000

/** Whether the server is in the cache, or Go to build it with is there. */
export const canStartS3 = () => canInstall(versitygw)

/**
 * Starts an S3 server on a free loopback port. It is built the first time, which takes some minutes, and stays in the
 * user's cache. It ends with this process at the latest.
 */
export async function startS3(options: S3ServerOptions = {}): Promise<S3Server> {
  const binary = await installGoTool(versitygw)
  const [port] = await freePorts(1)
  const address = `127.0.0.1:${port}`
  const access = { endpoint: `http://${address}`, ...credentials }
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'turbine-s3-')))
  let server: ChildProcess | undefined

  const start = async () => {
    server = spawn(
      binary,
      ['--port', address, '--health', '/health', '--quiet', '--keep-alive', 'posix', folder],
      {
        env: { ROOT_ACCESS_KEY: credentials.accessKeyId, ROOT_SECRET_KEY: credentials.secretAccessKey },
        ...apart,
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    )
    endWithThisProcess(server)
    await untilHealthy(server, access.endpoint)
  }
  const end = async (signal: NodeJS.Signals) => {
    if (!server || server.exitCode !== null || server.signalCode !== null) return
    const exited = once(server, 'exit')
    server.kill(signal)
    await exited
  }
  await start()
  return {
    ...access,
    createBucket: (name) => createBucket(access, name),
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    freeze: () => void server?.kill('SIGSTOP'),
    thaw: () => void server?.kill('SIGCONT'),
    async dispose() {
      await end('SIGKILL')
      if (options.folder === undefined) await rm(folder, { recursive: true })
    },
  }
}

export async function createBucket({ endpoint, ...credentials }: S3Access, name: string): Promise<void> {
  const client = new S3Client({ endpoint, region: 'us-east-1', credentials, forcePathStyle: true })
  await client.send(new CreateBucketCommand({ Bucket: name }))
  client.destroy()
}

async function untilHealthy(server: ChildProcess, endpoint: string): Promise<void> {
  let errors = ''
  server.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  for (const giveUp = Date.now() + readyWithinMs; !(await isHealthy(endpoint)); await wait(50)) {
    if (server.exitCode !== null)
      throw new Error(`The S3 server ended with code ${server.exitCode}: ${errors}`)
    if (Date.now() > giveUp)
      throw new Error(`The S3 server does not answer in ${readyWithinMs} ms: ${errors}`)
  }
}

async function isHealthy(endpoint: string): Promise<boolean> {
  return fetch(`${endpoint}/health`).then(
    ({ ok }) => ok,
    () => false,
  )
}
