#!/usr/bin/env node
import { enableCompileCache } from 'node:module'
import { setImmediate } from 'node:timers/promises'
import type { Config, ConfigSources } from '../../infra/config.ts'
import { poolThreads } from '../../infra/cores.ts'
import { compileCacheFolder } from '../../infra/user-cache.ts'
import packageJson from '../../package.json' with { type: 'json' }
import type { ReadImage } from './caption/read-image.ts'

// Halves the start-up time from the second run on. Imports above are not cached.
const cache = process.env.NODE_COMPILE_CACHE ?? compileCacheFolder()
if (cache !== undefined) enableCompileCache(cache)

// Node's pool has four threads whatever the machine has, and takes the number when it is used first.
process.env.UV_THREADPOOL_SIZE ??= String(poolThreads())

const { describeConfig, loadConfig } = await import('../../infra/config.ts')
const { bundledModel } = await import('../../infra/starter-model/bundled.ts')
const { describeError, isClosedPipe, UsageError } = await import('./errors.ts')
const { runProgram } = await import('./program.ts')

// A reader like `head` may exit. Commands that need to know notice it by the failed write.
let failedWrite: Error | undefined
process.stdout.on('error', (error) => {
  if (!isClosedPipe(error)) failedWrite ??= error
})
process.stderr.on('error', () => {})

/** Each is told once, though settings are loaded several times. */
const warned = new Set<string>()

/** Loads the settings with the flags of a command. @throws UsageError for an invalid value */
function settle(flags: ConfigSources['flags'] = {}) {
  try {
    const { config, warnings } = loadConfig({ flags })
    for (const warning of warnings) if (!warned.has(warning)) process.stderr.write(`turbine: ${warning}\n`)
    for (const warning of warnings) warned.add(warning)
    return config
  } catch (error) {
    throw error instanceof Error ? new UsageError(error.message, { cause: error }) : error
  }
}

async function createLog({ logLevel, logFormat }: Config) {
  const { createLogger } = await import('../../infra/telemetry/log.ts')
  return createLogger({ level: logLevel, format: logFormat })
}

/** Connection settings of Kafka. @throws UsageError without brokers */
async function kafka() {
  const config = settle()
  const { kafkaOptions } = await import('../../infra/backends.ts')
  const options = await kafkaOptions(config, await createLog(config))
  if (options) return options
  throw new UsageError('KAFKA_BROKERS is not set. Set it, e.g. KAFKA_BROKERS=kafka:9092.')
}

const readImage: ReadImage = async (location, options) => {
  images ??= openImages()
  return (await images)(location, options)
}
let images: ReturnType<typeof openImages> | undefined

/** Nobody waits for a command's window: a host that does not answer is given up before its user is. */
const silentMs = 60_000
const refusingMs = 10 * 60_000

async function openImages() {
  const { hostPaces } = await import('../../infra/fetch/configured.ts')
  const { imageSourceOf } = await import('../../infra/fetch/image-source.ts')
  const { webSettings } = await import('../../infra/fetch/web-settings.ts')
  const { createImageReader } = await import('./caption/read-image.ts')
  const { config } = loadConfig()
  loading ??= openLoaders(config)
  const { loaders } = await loading
  const hosts = hostPaces(config, { silentMs, refusingMs })
  return createImageReader(
    imageSourceOf(loaders.reader, { ...webSettings(config, packageJson.version), hosts }),
  )
}

/** What reads and decodes the images of a command; it ends with the process. */
async function openLoaders(config: Config) {
  const { openLoading } = await import('../pipeline/loading.ts')
  const { maxBodyBytes } = await import('../../edge/contract/caption.ts')
  return openLoading(config, { version: packageJson.version, maxBytes: maxBodyBytes, readsFiles: true })
}
let loading: ReturnType<typeof openLoaders> | undefined

// Commands import lazily: onnxruntime and sharp are slow to load.
let exitCode = await runProgram(process.argv.slice(2), {
  version: packageJson.version,
  settings: describeConfig(),
  debug: /^(debug|trace)$/.test(process.env.TURBINE_LOG_LEVEL ?? ''),
  env: process.env,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  signals: process,
  readImage,
  reading: () => {
    const { ignoreParameters: ignored, modelAliases: aliases, maxText, maxImages } = loadConfig().config
    return { ignored, aliases, maxText, maxImages }
  },
  bundledModel,
  dataDir: async () => settle().dataDir,
  deviceKind: async () => {
    const { resolveDevices } = await import('../engine/devices.ts')
    const { devices } = await resolveDevices(settle().device)
    return devices[0]!.provider === 'cpu' ? 'cpu' : 'gpu'
  },
  opening: async (dtype) => {
    const { openOptions } = await import('../pipeline/open.ts')
    return openOptions(settle({ dtype }))
  },
  precisionOnCpu: async (flags, model) => {
    const { precisionOnCpu } = await import('../pipeline/open.ts')
    return (await precisionOnCpu(settle(flags), model)).reason
  },
  openStore: async () => {
    const { openStores } = await import('../../infra/backends.ts')
    return (await openStores(settle(), { guest: true })).store
  },
  ownBucket: () => settle().s3Bucket,
  openStream: async () => {
    const config = settle()
    const { openStream } = await import('../../infra/backends.ts')
    const { topicLayout } = await import('../../edge/contract/topics.ts')
    const stream = await openStream(config, await createLog(config))
    await stream.ensureTopics(topicLayout(config.partitions))
    return stream
  },
  defaultPartitions: () => settle().partitions,
  createTopics: async (layout) => {
    const { createTopics } = await import('../../infra/stream/topics.ts')
    return createTopics(await kafka(), layout)
  },
  checkTopics: async (layout) => {
    const { checkTopics } = await import('../../infra/stream/topics.ts')
    return checkTopics(await kafka(), layout)
  },
  startService: async (role, flags) => {
    const config = settle(flags)
    const { startRole } = await import('../service/roles.ts')
    return startRole(role, { config, log: await createLog(config), version: packageJson.version })
  },
  openCaptioner: async ({ model, device, dtype, precision, decode }) => {
    const config = settle({ model, device, dtype, precision, decode })
    const { openCaptioner } = await import('../pipeline/open.ts')
    loading ??= openLoaders(config)
    return openCaptioner(config, await loading)
  },
  openCalibrator: async ({ model, device, dtype, precision, prompt }) => {
    const { openCalibrator } = await import('../calibration/open-calibrator.ts')
    return openCalibrator(settle({ model, device, dtype, precision, prompt }))
  },
  openInspector: async (flags) => {
    const config = settle({ ...flags })
    const { openConfigured, precisionOf } = await import('../pipeline/open.ts')
    const { resolveDevices } = await import('../engine/devices.ts')
    const { openInspector } = await import('./inspect/inspector.ts')
    const { devices } = await resolveDevices(config.device)
    const intraOpThreads = config.intraOpThreads || undefined
    const model = await openConfigured(config, devices[0]!)
    const { precision } = await precisionOf(config, model, devices[0]!)
    return openInspector({ model, device: devices[0]!, intraOpThreads, precision, prompt: config.prompt })
  },
})
// A failed write is told after it.
await setImmediate()
if (exitCode === 0 && failedWrite) {
  process.stderr.write(`turbine: Not all of the output was written: ${describeError(failedWrite)}\n`)
  exitCode = 1
}
// Standard input and keep-alive connections must not keep the process alive.
process.exit(exitCode)
