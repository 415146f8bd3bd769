import { execFile } from 'node:child_process'
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
}

export interface WorkerServer {
  /** E.g. `http://127.0.0.1:34567`. */
  url: string
  dispose(): Promise<void>
}

/**
 * Serves the edge in workerd, as `wrangler deploy` would bundle it, on a free port of loopback. It is started by
 * Miniflare itself, because `wrangler dev` adds some 13 ms to each request.
 */
export async function startWorker({ kafka, s3, vars }: WorkerOptions): Promise<WorkerServer> {
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
  return { url: origin, dispose: () => worker.dispose() }
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
