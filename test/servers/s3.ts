import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { cacheFolder, endWithThisProcess, freePorts, hasCommand, run } from './tools.ts'

/** How an S3 server is reached. */
export interface S3Access {
  endpoint: string
  accessKeyId: string
  secretAccessKey: string
}

/** A real S3 server for tests: versitygw on a temporary folder. */
export interface S3Server extends S3Access {
  createBucket(name: string): Promise<void>
  stop(): Promise<void>
  /** Again, at the same address and with the same data. */
  start(): Promise<void>
  /** Ends it and removes its data. */
  dispose(): Promise<void>
}

const version = '1.8.0'
const goPackage = `github.com/versity/versitygw/cmd/versitygw@v${version}`
const binary = join(cacheFolder(`versitygw-${version}`), 'versitygw')
const credentials = { accessKeyId: 'turbine', secretAccessKey: 'turbine-test-secret' }
const readyWithinMs = 20_000

/** Whether the server is in the cache, or Go to build it with is there. */
export const canStartS3 = () => existsSync(binary) || goCommand() !== undefined

/**
 * Starts an S3 server on a free loopback port. It is built the first time, which takes some minutes, and stays in the
 * user's cache. It ends with this process at the latest.
 */
export async function startS3(): Promise<S3Server> {
  await build()
  const [port] = await freePorts(1)
  const address = `127.0.0.1:${port}`
  const access = { endpoint: `http://${address}`, ...credentials }
  const folder = await mkdtemp(join(tmpdir(), 'turbine-s3-'))
  let server: ChildProcess | undefined

  const start = async () => {
    server = spawn(
      binary,
      ['--port', address, '--health', '/health', '--quiet', '--keep-alive', 'posix', folder],
      {
        env: { ROOT_ACCESS_KEY: credentials.accessKeyId, ROOT_SECRET_KEY: credentials.secretAccessKey },
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    )
    endWithThisProcess(server)
    await untilHealthy(server, access.endpoint)
  }
  const stop = async () => {
    if (!server || server.exitCode !== null || server.signalCode !== null) return
    const exited = once(server, 'exit')
    server.kill()
    await exited
  }
  await start()
  return {
    ...access,
    createBucket: (name) => createBucket(access, name),
    start,
    stop,
    async dispose() {
      await stop()
      await rm(folder, { recursive: true })
    },
  }
}

export async function createBucket({ endpoint, ...credentials }: S3Access, name: string): Promise<void> {
  const client = new S3Client({ endpoint, region: 'us-east-1', credentials, forcePathStyle: true })
  await client.send(new CreateBucketCommand({ Bucket: name }))
  client.destroy()
}

function goCommand(): string | undefined {
  const installed = '/usr/local/go/bin/go'
  if (hasCommand('go')) return 'go'
  return existsSync(installed) ? installed : undefined
}

async function build(): Promise<void> {
  if (existsSync(binary)) return
  const go = goCommand()
  if (!go) throw new Error('The S3 server for tests is built with Go. Install it, or set S3_ENDPOINT.')
  await mkdir(dirname(binary), { recursive: true })
  const folder = await mkdtemp(join(dirname(binary), 'build-'))
  await run(go, ['install', goPackage], { env: { ...process.env, GOBIN: folder } })
  // Several test runs may build at once.
  await rename(join(folder, 'versitygw'), binary)
  await rm(folder, { recursive: true })
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
