import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Miniflare } from 'miniflare'
import { unstable_readConfig as readConfig } from 'wrangler'

const repository = fileURLToPath(new URL('../../', import.meta.url))
const config = join(repository, 'wrangler.toml')
const name = 'turbine-edge'

/** The part of `wrangler.toml` that is used; the package's own types are not complete. */
interface WranglerConfig {
  compatibility_date: string
  compatibility_flags: string[]
  durable_objects: { bindings: { name: string; class_name: string }[] }
  vars: Record<string, string>
}

export interface WorkerOptions {
  kafka: { brokers: string }
  s3: { endpoint: string; accessKeyId: string; secretAccessKey: string }
  /** Variables and secrets beyond those, by their names in `wrangler.toml`. */
  vars?: Record<string, string>
  /** Opens the inspector, for `openHeap`. Default: false. */
  inspect?: boolean
}

export interface WorkerServer {
  /** E.g. `http://127.0.0.1:34567`. */
  url: string
  /** Measures the memory of its isolate; with `inspect`. */
  openHeap(): Promise<Heap>
  dispose(): Promise<void>
}

export interface Heap {
  /** Bytes of objects and of buffers, garbage included. */
  used(): Promise<number>
  close(): void
}

/**
 * Serves the edge in workerd, as `wrangler deploy` would bundle it, on a free port of loopback. It is started by
 * Miniflare itself, because `wrangler dev` adds some 13 ms to each request.
 */
export async function startWorker({
  kafka,
  s3,
  vars,
  inspect = false,
}: WorkerOptions): Promise<WorkerServer> {
  const wrangler: WranglerConfig = readConfig({ config })
  const classes = wrangler.durable_objects.bindings.map((object) => [object.name, object.class_name] as const)
  const text = {
    ...wrangler.vars,
    TURBINE_LOG_LEVEL: 'silent',
    KAFKA_BROKERS: kafka.brokers,
    S3_ENDPOINT: s3.endpoint,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    ...vars,
  }
  const worker = new Miniflare({
    host: '127.0.0.1',
    port: 0,
    cf: false,
    ...(inspect && { inspectorPort: 0 }),
    workers: [
      {
        config: {
          name,
          compatibilityDate: wrangler.compatibility_date,
          compatibilityFlags: wrangler.compatibility_flags,
          manifest: {
            mainModule: 'worker.js',
            modules: { 'worker.js': { type: 'esm', contents: await bundleWorker() } },
          },
          env: {
            ...mapValues(text, (value) => ({ type: 'text' as const, value })),
            ...mapValues(Object.fromEntries(classes), (exportName) => ({
              type: 'durable-object' as const,
              worker: name,
              exportName,
            })),
          },
          exports: Object.fromEntries(
            classes.map(([, className]) => [className, { type: 'durable-object', storage: 'sqlite' }]),
          ),
        },
      },
    ],
  })
  const { origin } = await worker.ready
  const openHeap = async () => heapAt(await worker.getInspectorURL())
  return { url: origin, openHeap, dispose: () => worker.dispose() }
}

/** Asks V8 through the inspector's protocol. */
async function heapAt(inspector: URL): Promise<Heap> {
  const [target] = (await (await fetch(new URL('/json', inspector.href.replace('ws', 'http')))).json()) as {
    webSocketDebuggerUrl: string
  }[]
  const socket = new WebSocket(target!.webSocketDebuggerUrl)
  await once(socket as never, 'open')
  let id = 0
  return {
    async used() {
      const asked = ++id
      const answer = Promise.withResolvers<Record<string, number>>()
      const listen = ({ data }: MessageEvent) => {
        const message = JSON.parse(String(data))
        if (message.id === asked) answer.resolve(message.result ?? message)
      }
      socket.addEventListener('message', listen)
      socket.send(JSON.stringify({ id: asked, method: 'Runtime.getHeapUsage' }))
      const usage = await answer.promise
      socket.removeEventListener('message', listen)
      return usage.usedSize! + (usage.backingStorageSize ?? 0)
    },
    close: () => socket.close(),
  }
}

let bundled: Promise<string> | undefined

/** The Worker as one module, built once in this process. */
function bundleWorker(): Promise<string> {
  bundled ??= build()
  return bundled
}

async function build(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'turbine-worker-'))
  try {
    const wrangler = join(
      dirname(createRequire(import.meta.url).resolve('wrangler/package.json')),
      'bin/wrangler.js',
    )
    const deploy = ['deploy', '--dry-run', '--config', config, '--outdir', folder]
    await promisify(execFile)(process.execPath, [wrangler, ...deploy], {
      cwd: repository,
      env: { ...process.env, WRANGLER_SEND_METRICS: 'false', CI: 'true' },
    })
    return await readFile(join(folder, 'worker.js'), 'utf8')
  } finally {
    await rm(folder, { recursive: true })
  }
}

const mapValues = <T, U>(record: Record<string, T>, map: (value: T) => U): Record<string, U> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]))
