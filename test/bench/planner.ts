import { fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pLimit from 'p-limit'
import { newBatch, type StoredBatch } from '../../edge/contract/batch.ts'
import type { StoredFile } from '../../edge/contract/file.ts'
import { keys } from '../../edge/contract/keys.ts'
import { encodeShard } from '../../edge/contract/shard.ts'
import { openStores } from '../../infra/backends.ts'
import { loadConfig } from '../../infra/config.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { outputLine, resultIds } from '../../processor/batches/shard/result-lines.ts'
import { canStartS3, startS3 } from '../servers/s3.ts'
import { printResult } from './measure.ts'
import type { PlannerReport, PlannerRequest } from './planner-process.ts'

const planner = fileURLToPath(new URL('./planner-process.ts', import.meta.url))
const batch = 'batch_bench'
const file = 'file-bench'
const linesOfShard = 256

export interface PlannerBenchOptions {
  lines: number
  /** Full shards whose results are joined; default 4,000. */
  shards?: number
}

/**
 * Measures a planner with a large batch: reading a manifest from the store and cutting it into shards until the plan
 * is kept, in a process of its own whose memory is watched; and joining the results of 4,000 full shards. On the S3
 * server that `S3_ENDPOINT` names, else on one that is started on this machine and shares its cores, else in a folder.
 */
export async function benchPlanner({ lines, shards = 4000 }: PlannerBenchOptions): Promise<void> {
  const place = await openPlace()
  const { store, close } = await openStores(loadConfig({ env: place.env }).config)
  // Unique in a shared store.
  const tenant = `bench-${randomUUID()}`
  const ask = (work: PlannerRequest['work']) => askPlanner(place.env, { work, tenant, batch, shards })
  try {
    await putBatch(store, tenant, lines)
    const planned = await ask('plan')
    await putShards(store, tenant, shards)
    const joined = await ask('join')
    const megabytes = joined.bytes / 1e6
    console.log(
      `${place.name}: ${lines} lines planned in ${planned.seconds.toFixed(1)} s, ${planned.peakRssMb.toFixed(0)} MB resident`,
    )
    console.log(
      `${shards} shards, ${megabytes.toFixed(0)} MB, joined in ${joined.seconds.toFixed(1)} s, ${joined.peakRssMb.toFixed(0)} MB resident`,
    )
    printResult('planner', {
      lines_per_second: lines / planned.seconds,
      peak_rss_mb: planned.peakRssMb,
      join_mb_per_second: megabytes / joined.seconds,
      join_peak_rss_mb: joined.peakRssMb,
      store: place.name,
    })
  } finally {
    await removeAll(store, tenant)
    await close()
    await place.dispose()
  }
}

/** Store of the benchmark, as settings of a process. */
async function openPlace() {
  const bucket = 'turbine'
  if (process.env.S3_ENDPOINT) return { name: 'S3', env: process.env, dispose: async () => {} }
  if (canStartS3()) {
    const s3 = await startS3()
    await s3.createBucket(bucket)
    const env = {
      ...process.env,
      S3_ENDPOINT: s3.endpoint,
      S3_BUCKET: bucket,
      AWS_ACCESS_KEY_ID: s3.accessKeyId,
      AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    }
    return { name: 'S3 on this machine', env, dispose: () => s3.dispose() }
  }
  const folder = await mkdtemp(join(tmpdir(), 'turbine-planner-'))
  const env = { ...process.env, TURBINE_DATA_DIR: folder }
  return { name: 'folder', env, dispose: () => rm(folder, { recursive: true }) }
}

function askPlanner(env: NodeJS.ProcessEnv, request: PlannerRequest): Promise<PlannerReport> {
  const child = fork(planner, { env })
  return new Promise((resolve, reject) => {
    child.once('message', (report) => resolve(report as PlannerReport))
    child.once('exit', (code) => reject(new Error(`The planner ended with code ${code}.`)))
    child.send(request)
  })
}

async function putBatch(store: ObjectStore, tenant: string, lines: number): Promise<void> {
  const key = keys.fileContent(tenant, file)
  await store.put(key, ReadableStream.from(manifest(lines)))
  const { size } = (await store.head(key))!
  const created_at = Math.floor(Date.now() / 1000)
  const stored: StoredFile = {
    file: {
      id: file,
      object: 'file',
      bytes: size,
      created_at,
      filename: 'bench.jsonl',
      purpose: 'batch',
      status: 'processed',
    },
    slices: [{ key, start: 0, end: size }],
  }
  await store.put(keys.file(tenant, file), JSON.stringify(stored))
  const storedBatch: StoredBatch = {
    tenant,
    batch: newBatch({
      id: batch,
      endpoint: '/v1/captions',
      model: 'turbine-starter',
      input_file_id: file,
      completion_window: '24h',
      created_at,
      expires_at: created_at + 24 * 3600,
      metadata: null,
      turbine: { max_prune: 1 },
    }),
  }
  await store.put(keys.batch(tenant, batch), JSON.stringify(storedBatch))
}

/** Short lines, 10,000 at a time. */
async function* manifest(lines: number): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder()
  for (let first = 0; first < lines; first += 10_000) {
    const count = Math.min(10_000, lines - first)
    const texts = Array.from({ length: count }, (_, i) => line(first + i))
    yield encoder.encode(texts.join(''))
  }
}

const line = (number: number) =>
  `{"custom_id":"image-${number}","image_url":"s3://pictures/2026/${number}.jpg"}\n`

/** Results like those of captions. */
async function putShards(store: ObjectStore, tenant: string, shards: number): Promise<void> {
  const tally = {
    completed: linesOfShard,
    failed: 0,
    dropped: 0,
    pruneRatioSum: 0,
    inputTokens: 0,
    outputTokens: 0,
  }
  const limit = pLimit(8)
  const put = async (shard: number) => {
    const lines = Array.from({ length: linesOfShard }, (_, i) => resultLine(shard * linesOfShard + i + 1))
    await store.put(keys.batchShard(tenant, batch, shard), encodeShard(tally, lines, []))
  }
  await Promise.all(Array.from({ length: shards }, (_, shard) => limit(put, shard)))
}

function resultLine(number: number): string {
  const { id, requestId } = resultIds(batch, number)
  const turbine = {
    prune_level: 2,
    prune_ratio: 0.42,
    tokens_in: 145,
    tokens_out: 84,
    output_tokens: 11,
    queue_ms: 1234.5,
    inference_ms: 87.6,
    model: 'turbine-starter',
  }
  const caption = 'a small white house above a large orange heart in the desert'
  const body = {
    id: requestId,
    object: 'caption',
    status: 'completed',
    created: 1_800_000_000,
    caption,
    turbine,
  }
  return outputLine({ id, customId: `image-${number}`, statusCode: 200, requestId, body })
}

async function removeAll(store: ObjectStore, tenant: string): Promise<void> {
  const limit = pLimit(8)
  for (const prefix of [`files/${tenant}/`, `batches/${tenant}/`, `batch-work/${tenant}/`]) {
    for (let more = true; more; ) {
      const { objects, continuation } = await store.list(prefix)
      await Promise.all(objects.map(({ key }) => limit(() => store.delete(key))))
      more = continuation !== undefined
    }
  }
}
