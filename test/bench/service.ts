import { type ChildProcess, fork, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { maxShardLines } from '../../edge/contract/batch.ts'
import { encodeJob } from '../../edge/contract/job.ts'
import { keys } from '../../edge/contract/keys.ts'
import { encodeShardJob } from '../../edge/contract/shard.ts'
import { groups, topics } from '../../edge/contract/topics.ts'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { openS3 } from '../../infra/store/s3.ts'
import type { Slice } from '../../infra/store/slices.ts'
import { openKafkaStream } from '../../infra/stream/kafka.ts'
import type { Stream } from '../../infra/stream/stream.ts'
import { startKafka } from '../servers/kafka.ts'
import { type S3Server, startS3 } from '../servers/s3.ts'
import { startWorker } from '../servers/worker.ts'
import { openBareEngine } from './bare-engine.ts'
import { encodeScenes } from './encoded-scenes.ts'
import { median, printResult, quantile } from './measure.ts'
import type { LoadReport, LoadRequest } from './pipeline-client.ts'
import { type CpuTime, cpuPerImage, cpuTime } from './thread-cpu.ts'

const cli = fileURLToPath(new URL('../../processor/cli/main.ts', import.meta.url))
const client = fileURLToPath(new URL('./pipeline-client.ts', import.meta.url))
const secret = 'a secret for benchmarks only'

export interface ServiceBenchOptions {
  rounds: number
  batch: number
  /** Shards in each round, and as many images as single jobs; default 4. */
  shards?: number
  /** Lines of a shard; default as many as a batch's have. */
  shardLines?: number
  /** Images of the 32 callers in each round; default 320. */
  crowdImages?: number
}

/**
 * Measures what the distributed service costs beyond the engine and the decoding of its images, on the starter model, unpruned:
 * images per second from Kafka in to S3 out, in shards of a batch and as single jobs, against the engine fed by the same decoders; and what
 * a lone request, and one of 32, takes longer than its inference through Worker, Kafka, processor and back, with where
 * it goes. Broker, S3 server, workerd and callers share the machine's cores with the processor.
 */
export async function benchService(options: ServiceBenchOptions): Promise<void> {
  const { rounds, batch, shards: count = 4, shardLines = maxShardLines, crowdImages = 320 } = options
  const [kafka, s3] = await Promise.all([startKafka(), startS3()])
  await s3.createBucket('turbine')
  const processor = await startProcessor({
    KAFKA_BROKERS: kafka.brokers,
    S3_ENDPOINT: s3.endpoint,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    TURBINE_REPLY_SECRET: secret,
    TURBINE_MAX_BATCH: String(batch),
    TURBINE_PORT: '0',
    TURBINE_LOG_LEVEL: 'warn',
    TURBINE_SLO_MS: '60000',
  })
  const worker = await startWorker({ kafka, s3, vars: { TURBINE_REPLY_SECRET: secret } })
  const stream = await openKafkaStream({ brokers: [kafka.brokers] })
  const pictures = await encodeScenes(3, 32, 90)
  const bare = await openBareEngine('cpu', { batch, pictures })
  const load = fork(client)
  const lanes: Record<'batch' | 'interactive', LaneRound[]> = { batch: [], interactive: [] }
  const engineRates: number[] = []
  const lone: LoadReport[] = []
  const crowd: LoadReport[] = []
  // Whole shards, and enough of them that the first and the last batches, which are not full, count for little.
  const images = count * shardLines
  try {
    const manifest = await putManifest(s3, pictures, shardLines)
    const url = await readyAt(worker.url)
    await ask(load, { url, images: 4 * batch, callers: batch })
    await captionJobs(stream, pictures, 4 * batch)
    for (let round = 0; round < rounds; round++) {
      const engineRate = await bare.engineRate(images)
      const bareRate = await bare.rate(images)
      engineRates.push(engineRate)
      const work = {
        batch: () => captionShards(stream, { manifest, count, lines: shardLines }),
        interactive: () => captionJobs(stream, pictures, images),
      }
      for (const lane of ['batch', 'interactive'] as const) {
        const { result: rate, cpu } = await cpuPerImage(images, () => cpuTime(processor.pid!), work[lane])
        lanes[lane].push({ rate, kept: rate / bareRate, keptOfEngine: rate / engineRate, cpu })
      }
      const rates = [engineRate, bareRate, lanes.batch.at(-1)!.rate, lanes.interactive.at(-1)!.rate]
      const [engine, alone, shards, jobs] = rates.map((rate) => rate.toFixed(1))
      console.log(
        `round ${round + 1}: ${engine} images/s engine, ${alone} with decoding, ${shards} in shards, ${jobs} as single jobs`,
      )
      lone.push(await ask(load, { url, images: 24, callers: 1 }))
      crowd.push(await ask(load, { url, images: crowdImages, callers: 32 }))
    }
  } finally {
    if (load.connected) load.disconnect()
    await stream.close()
    processor.kill('SIGTERM')
    await once(processor, 'exit')
    await worker.dispose()
    await bare.close()
    await Promise.all([kafka.dispose(), s3.dispose()])
  }
  const overheads = lone.flatMap(({ overheadsMs }) => overheadsMs)
  const parts = partsOf(lone)
  const [shards, jobs] = [lanes.batch, lanes.interactive].map(summaryOf) as [LaneSummary, LaneSummary]
  console.log(`from Kafka to S3: ${describe(shards)} in shards of a batch, ${describe(jobs)} as single jobs`)
  console.log(
    `a lone request takes ${median(overheads).toFixed(1)} ms longer than its inference (median), of that`,
  )
  for (const [part, ms] of Object.entries(parts)) console.log(`  ${part.padEnd(8)} ${ms.toFixed(1)} ms`)
  // The engine alone would need this long for the 32 that wait at any time.
  const engineMs = median(engineRates.map((rate) => (1000 * 32) / rate))
  const crowdMs = median(crowd.flatMap(({ parts }) => parts.map(({ totalMs }) => totalMs)))
  printResult('service', {
    ...shards,
    ...Object.fromEntries(Object.entries(jobs).map(([field, value]) => [`${field}_single_jobs`, value])),
    overhead_ms_p50: median(overheads),
    overhead_ms_p90: quantile(overheads, 0.9),
    ...Object.fromEntries(Object.entries(parts).map(([part, ms]) => [`${part}_ms_p50`, ms])),
    overhead_ms_p50_at_32: crowdMs - engineMs,
    latency_ms_p50_at_32: crowdMs,
    images_per_second_at_32: median(crowd.map(({ imagesPerSecond }) => imagesPerSecond)),
    batch,
    rounds,
  })
}

/** One lane in one round: images per second, over what engine and decoders, or the engine, do alone. */
interface LaneRound {
  rate: number
  kept: number
  keptOfEngine: number
  /** Of the processor, an image. */
  cpu: CpuTime
}

type LaneSummary = ReturnType<typeof summaryOf>

function summaryOf(rounds: LaneRound[]) {
  const middle = (of: (round: LaneRound) => number) => median(rounds.map(of))
  return {
    kept: middle(({ kept }) => kept),
    kept_engine_only: middle(({ keptOfEngine }) => keptOfEngine),
    images_per_second: middle(({ rate }) => rate),
    main_thread_ms_per_image: middle(({ cpu }) => cpu.main),
    cpu_ms_per_image: middle(({ cpu }) => cpu.outside),
  }
}

const describe = ({ images_per_second: rate, kept, kept_engine_only: ofEngine }: LaneSummary) =>
  `${rate.toFixed(1)} images/s (${(100 * kept).toFixed(0)} % of engine and decoding, ${(100 * ofEngine).toFixed(0)} % of the engine)`

/** A manifest with the images in its lines. */
async function putManifest(s3: S3Server, pictures: Buffer[], lines: number): Promise<Slice> {
  const text = Array.from({ length: lines }, (_, i) => {
    const picture = pictures[i % pictures.length]!.toString('base64')
    return `${JSON.stringify({ custom_id: `scene-${i}`, image_url: `data:image/jpeg;base64,${picture}` })}\n`
  }).join('')
  const client = openS3({ ...s3, region: 'us-east-1' })
  const key = keys.fileContent('default', 'manifest')
  await client.bucket('turbine').put(key, text)
  client.close()
  return { key, start: 0, end: text.length }
}

/** Sends shards, and measures until their results are stored and committed. */
async function captionShards(
  stream: Stream,
  { manifest, count, lines }: { manifest: Slice; count: number; lines: number },
): Promise<number> {
  const now = Date.now()
  const batch = `batch_${randomUUID()}`
  const jobs = Array.from({ length: count }, (_, shard) =>
    encodeShardJob({
      tenant: 'default',
      batch,
      shard,
      endpoint: '/v1/captions',
      model: basename(bundledModel),
      maxPrune: 0,
      createdAt: now,
      expiresAt: now + 86_400_000,
      slices: [manifest],
      firstLine: 1 + shard * lines,
      lines,
      duplicates: [],
    }),
  )
  return rateOf(stream, 'batch', count * lines, () => stream.send(topics.batch, jobs))
}

/** Sends jobs without a waiting caller, and measures until their results are stored and committed. */
async function captionJobs(stream: Stream, pictures: Buffer[], images: number): Promise<number> {
  const now = Date.now()
  const jobs = Array.from({ length: images }, (_, i) =>
    encodeJob({
      id: `cap_${randomUUID()}`,
      tenant: 'default',
      model: basename(bundledModel),
      image: pictures[i % pictures.length]!,
      acceptedAt: now,
      deadline: now + 3_600_000,
      maxPrune: 0,
    }),
  )
  return rateOf(stream, 'interactive', images, async () => {
    for (let i = 0; i < images; i += 64) await stream.send(topics.interactive, jobs.slice(i, i + 64))
  })
}

async function rateOf(
  stream: Stream,
  lane: 'batch' | 'interactive',
  images: number,
  send: () => Promise<void>,
): Promise<number> {
  const start = performance.now()
  await send()
  while ((await stream.lag(topics[lane], groups[lane])) > 0) await delay(20)
  return (1000 * images) / (performance.now() - start)
}

/** Medians of where the time of lone requests goes, ms; together about the overhead. */
function partsOf(reports: LoadReport[]): Record<'edge' | 'produce' | 'fetch' | 'reply', number> {
  const requests = reports.flatMap(({ parts }) => parts)
  const middle = (of: (request: (typeof requests)[number]) => number) => median(requests.map(of))
  return {
    edge: middle(({ totalMs, produceMs, waitMs }) => totalMs - produceMs - waitMs),
    produce: middle(({ produceMs }) => produceMs),
    fetch: middle(({ produceMs, queueMs }) => queueMs - produceMs),
    reply: middle(
      ({ produceMs, waitMs, queueMs, inferenceMs }) => produceMs + waitMs - queueMs - inferenceMs,
    ),
  }
}

async function startProcessor(env: Record<string, string>): Promise<ChildProcess> {
  const child = spawn(process.execPath, [cli, 'processor', '--device', 'cpu'], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let printed = ''
  child.stdout.setEncoding('utf8')
  for await (const text of child.stdout) {
    printed += text
    if (/is ready/.test(printed)) return child
  }
  throw new Error('the processor ended before it was ready')
}

/** Waits until the edge knows the model. */
async function readyAt(url: string): Promise<string> {
  for (;;) {
    const response = await fetch(`${url}/v1/models`)
    const { data } = (await response.json()) as { data?: unknown[] }
    if (data && data.length > 0) return url
    await delay(200)
  }
}

function ask(load: ChildProcess, request: LoadRequest): Promise<LoadReport> {
  return new Promise((resolve, reject) => {
    load.removeAllListeners()
    load.once('message', (report) => resolve(report as LoadReport))
    load.once('exit', (code) => reject(new Error(`the callers ended with code ${code}`)))
    load.send(request)
  })
}
