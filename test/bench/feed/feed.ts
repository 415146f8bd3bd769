import { type ChildProcess, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { addGrants, changeTenant } from '../../../edge/accounts/tenants.ts'
import { encodeJob } from '../../../edge/contract/job.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { encodeShardJob } from '../../../edge/contract/shard.ts'
import { groups, topics } from '../../../edge/contract/topics.ts'
import { bundledModel } from '../../../infra/starter-model/bundled.ts'
import { heldOutScenes, renderScene, SIDE } from '../../../infra/starter-model/scenes.ts'
import { openS3 } from '../../../infra/store/s3.ts'
import type { Slice } from '../../../infra/store/slices.ts'
import { openKafkaStream } from '../../../infra/stream/kafka.ts'
import type { Stream } from '../../../infra/stream/stream.ts'
import { startKafka } from '../../servers/kafka.ts'
import { type S3Server, startS3 } from '../../servers/s3.ts'
import { median, printResult } from '../measure.ts'
import { treeUsage } from '../process-tree.ts'
import type { FromFeed, ToFeed } from './feed-process.ts'

const program = fileURLToPath(new URL('./feed-process.ts', import.meta.url))

export interface FeedBenchOptions {
  rounds: number
  /** In each round, of each lane. */
  photos: number
}

/** What one image costs the processor, CPU ms. */
interface Cost {
  main: number
  /** Of its processes together. */
  tree: number
  /** Decoding alone, as the decoders measure it. */
  decoding: number
  /** Images per second. */
  rate: number
}

const bucketName = 'photos'
const tenant = 'default'
/** Objects that the lines name in turn. */
const objects = 64
const shardLines = 256
/** Rounds that are not counted. */
const warmUps = 2

/**
 * Measures what feeding costs the processor, on a device that answers at once: photos of 0.2 megapixels from S3 in shards of
 * a batch, and in the records of single jobs; Kafka in, S3 out.
 */
export async function benchFeed({ rounds, photos }: FeedBenchOptions): Promise<void> {
  const [kafka, s3] = await Promise.all([startKafka(), startS3()])
  const pictures = await drawPhotos(16, { width: 544, height: 368 })
  const slices = await putPhotos(s3, pictures, photos)
  const stream = await openKafkaStream({ brokers: [kafka.brokers] })
  const env = {
    KAFKA_BROKERS: kafka.brokers,
    S3_ENDPOINT: s3.endpoint,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
  }
  const costs: Record<'batch' | 'interactive', Cost[]> = { batch: [], interactive: [] }
  const rates: Record<'one' | 'two', number[]> = { one: [], two: [] }
  try {
    for (const [name, loaders] of [
      ['two', 2],
      ['one', 1],
    ] as const) {
      const processor = await startProcessor({ ...env, TURBINE_LOADERS: String(loaders) })
      const batch = () => captionShards(stream, slices, photos)
      const jobs = () => captionJobs(stream, pictures, photos)
      // A processor runs for days: what is measured is code that the engine has compiled.
      for (let time = 0; time < warmUps; time++) {
        await batch()
        if (name === 'two') await jobs()
      }
      for (let round = 0; round < rounds; round++) {
        const inBatch = await costOf(processor, photos, batch)
        console.log(
          `round ${round + 1}, ${name}: ${inBatch.rate.toFixed(0)} images/s in shards, ${inBatch.main.toFixed(3)} ms on the main thread, ${(inBatch.tree - inBatch.decoding).toFixed(3)} ms beside decoding`,
        )
        rates[name].push(inBatch.rate)
        if (name === 'one') continue
        costs.batch.push(inBatch)
        costs.interactive.push(await costOf(processor, photos, jobs))
      }
      await processor.close()
    }
  } finally {
    await stream.close()
    await Promise.all([kafka.dispose(), s3.dispose()])
  }
  const middle = (lane: keyof typeof costs, of: (cost: Cost) => number) => median(costs[lane].map(of))
  for (const lane of ['batch', 'interactive'] as const) {
    const [main, tree, decoding, rate] = (['main', 'tree', 'decoding', 'rate'] as const).map((name) =>
      middle(lane, (cost) => cost[name]),
    ) as [number, number, number, number]
    console.log(
      `${lane}: ${rate.toFixed(0)} images/s; an image takes ${tree.toFixed(2)} ms of CPU, of that ${decoding.toFixed(2)} decoding, ${main.toFixed(2)} on the main thread`,
    )
  }
  printResult('feed', {
    main_thread_ms_per_image: middle('batch', ({ main }) => main),
    main_thread_ms_per_image_interactive: middle('interactive', ({ main }) => main),
    loader_scaling: median(rates.two) / median(rates.one),
    overhead_cpu_ms_per_image: middle('batch', ({ tree, decoding }) => tree - decoding),
    overhead_cpu_ms_per_image_interactive: middle('interactive', ({ tree, decoding }) => tree - decoding),
    decoding_cpu_ms_per_image: middle('batch', ({ decoding }) => decoding),
    images_per_second: median(rates.two),
    images_per_second_one_loader: median(rates.one),
    photos,
    rounds,
  })
}

/** Scenes in the size of photos, with some grain, as JPEG files. */
function drawPhotos(count: number, size: { width: number; height: number }): Promise<Buffer[]> {
  return Promise.all(
    heldOutScenes(5, count).map(async (scene) => {
      const grain = await sharp({
        create: {
          ...size,
          channels: 3,
          background: 'grey',
          noise: { type: 'gaussian', mean: 128, sigma: 6 },
        },
      })
        .png()
        .toBuffer()
      return sharp(await renderScene(scene), { raw: { width: SIDE, height: SIDE, channels: 3 } })
        .resize({ ...size, fit: 'fill' })
        .composite([{ input: grain, blend: 'soft-light' }])
        .jpeg({ quality: 85 })
        .toBuffer()
    }),
  )
}

/** Puts the photos, and a manifest of lines with their addresses. */
async function putPhotos(s3: S3Server, pictures: Buffer[], lines: number): Promise<Slice[]> {
  for (const name of [bucketName, 'turbine']) await s3.createBucket(name)
  const client = openS3({ ...s3, region: 'us-east-1' })
  const photos = client.bucket(bucketName)
  const own = client.own('turbine')
  for (let i = 0; i < objects; i++) await photos.put(`set/${i}.jpg`, pictures[i % pictures.length]!)
  await changeTenant(own, tenant, (found) =>
    addGrants(found, [{ uri: `s3://${bucketName}/`, access: 'read' }]),
  )
  const addresses = Array.from({ length: lines }, (_, i) => `s3://${bucketName}/set/${i % objects}.jpg\n`)
  const key = keys.fileContent(tenant, 'manifest')
  await own.put(key, addresses.join(''))
  client.close()
  let end = 0
  return Array.from({ length: Math.ceil(lines / shardLines) }, (_, shard): Slice => {
    const start = end
    end += addresses.slice(shard * shardLines, (shard + 1) * shardLines).join('').length
    return { key, start, end }
  })
}

/** Sends the lines as shards of a batch, and waits until their results are stored and committed. */
async function captionShards(stream: Stream, slices: Slice[], photos: number): Promise<void> {
  const now = Date.now()
  const batch = `batch_${randomUUID()}`
  const jobs = slices.map((slice, shard) =>
    encodeShardJob({
      ...{ tenant, batch, shard, endpoint: '/v1/captions', model: basename(bundledModel), maxPrune: 0 },
      ...{ createdAt: now, expiresAt: now + 86_400_000, slices: [slice], duplicates: [] },
      ...{ firstLine: 1 + shard * shardLines, lines: Math.min(shardLines, photos - shard * shardLines) },
    }),
  )
  await stream.send(topics.batch, jobs)
  await drained(stream, 'batch')
}

/** Sends jobs without a waiting caller, and waits until their results are stored and committed. */
async function captionJobs(stream: Stream, pictures: Buffer[], photos: number): Promise<void> {
  const now = Date.now()
  const jobs = Array.from({ length: photos }, (_, i) =>
    encodeJob({
      ...{ id: `cap_${randomUUID()}`, tenant, model: basename(bundledModel), maxPrune: 0 },
      ...{ image: pictures[i % pictures.length]!, acceptedAt: now, deadline: now + 3_600_000 },
    }),
  )
  for (let i = 0; i < jobs.length; i += 64) await stream.send(topics.interactive, jobs.slice(i, i + 64))
  await drained(stream, 'interactive')
}

async function drained(stream: Stream, lane: 'batch' | 'interactive'): Promise<void> {
  while ((await stream.lag(topics[lane], groups[lane])) > 0) await delay(20)
}

async function costOf(processor: Processor, photos: number, work: () => Promise<void>): Promise<Cost> {
  const before = await processor.usage()
  const startedAt = performance.now()
  await work()
  const seconds = (performance.now() - startedAt) / 1000
  const after = await processor.usage()
  const each = (name: keyof Usage) => (after[name] - before[name]) / photos
  return { main: each('main'), tree: each('tree'), decoding: each('decoding'), rate: photos / seconds }
}

interface Usage {
  main: number
  tree: number
  decoding: number
}

interface Processor {
  /** CPU time so far, ms. */
  usage(): Promise<Usage>
  close(): Promise<void>
}

async function startProcessor(env: Record<string, string>): Promise<Processor> {
  const dataDir = await mkdtemp(join(tmpdir(), 'turbine-feed-'))
  const child = fork(program, {
    env: {
      ...process.env,
      TURBINE_PORT: '0',
      TURBINE_LOG_LEVEL: 'warn',
      TURBINE_DEVICE: 'cpu',
      TURBINE_SLO_MS: '60000',
      TURBINE_DATA_DIR: dataDir,
      TURBINE_REPLY_SECRET: 'a secret for benchmarks only',
      ...env,
    },
  })
  await messageOf(child)
  const ask = async (message: ToFeed) => {
    child.send(message)
    return messageOf(child)
  }
  return {
    async usage() {
      const told = await ask({ kind: 'usage' })
      if (told.kind !== 'usage') throw new Error(`the processor told ${told.kind}`)
      return { main: told.mainMs, tree: 1000 * treeUsage(child.pid!).cpuSeconds, decoding: told.decodingMs }
    },
    async close() {
      const exited = once(child, 'exit')
      child.send({ kind: 'close' } satisfies ToFeed)
      await exited
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

async function messageOf(child: ChildProcess): Promise<FromFeed> {
  const ended = new AbortController()
  try {
    const [message] = await Promise.race([
      once(child, 'message', ended),
      once(child, 'exit', ended).then(([code]) => {
        throw new Error(`the processor ended with code ${code}`)
      }),
    ])
    return message as FromFeed
  } finally {
    ended.abort()
  }
}
