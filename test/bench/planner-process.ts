import { keys } from '../../edge/contract/keys.ts'
import { encodeControl } from '../../edge/contract/shard.ts'
import { topics } from '../../edge/contract/topics.ts'
import { openStores } from '../../infra/backends.ts'
import { loadConfig } from '../../infra/config.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import type { Stream } from '../../infra/stream/stream.ts'
import { joinShards } from '../../processor/batches/planner/join.ts'
import { startPlanner } from '../../processor/batches/planner/planner.ts'
import { readShardParts } from '../../processor/batches/shard/results.ts'

/** Task of this process. */
export interface PlannerRequest {
  work: 'plan' | 'join'
  tenant: string
  batch: string
  /** Shards to join. */
  shards: number
}

export interface PlannerReport {
  seconds: number
  /** Resident memory at its highest. */
  peakRssMb: number
  /** Shards sent while planning. */
  sent: number
  /** Of the joined files. */
  bytes: number
}

const silent = { info: () => {}, warn: () => {}, error: console.error }

/** Stream that announces the batch and accepts shards without a processor. */
function quietStream({ tenant, batch }: PlannerRequest) {
  const sent = { shards: 0 }
  const stream: Pick<Stream, 'consume' | 'send'> = {
    async send(topic, records) {
      if (topic === topics.batch) sent.shards += records.length
    },
    async consume({ topic, handle }) {
      const record = encodeControl({ type: 'batch_created', tenant, batch })
      const place = { topic, partition: 0, offset: 0n, timestamp: Date.now() }
      await handle({ ...record, ...place }, new AbortController().signal)
      return { inFlight: 0, full: false, close: async () => {} }
    },
  }
  return { stream, sent }
}

/** Measures from the announcement of the batch until its plan is stored. */
async function plan(store: ObjectStore, request: PlannerRequest) {
  const { stream, sent } = quietStream(request)
  const planner = await startPlanner({ store, stream, now: Date.now, log: silent })
  const isPlanned = () => store.head(keys.batchPlan(request.tenant, request.batch))
  while (!(await isPlanned())) await new Promise((resolve) => setTimeout(resolve, 50))
  return { sent: sent.shards, bytes: 0, close: () => planner.close(1000) }
}

async function join(store: ObjectStore, { tenant, batch, shards }: PlannerRequest) {
  async function* numbers() {
    for (let shard = 0; shard < shards; shard++) yield shard
  }
  const { outputBytes, errorBytes } = await joinShards({
    shards: numbers(),
    read: (shard) => readShardParts(store, { tenant, batch }, shard),
    output: { store, key: keys.fileContent(tenant, 'file-output') },
    errors: { store, key: keys.fileContent(tenant, 'file-error') },
    signal: new AbortController().signal,
  })
  return { sent: 0, bytes: outputBytes + errorBytes, close: async () => {} }
}

process.once('message', async (request: PlannerRequest) => {
  const stores = await openStores(loadConfig().config)
  const start = performance.now()
  const { sent, bytes, close } = await (request.work === 'plan' ? plan : join)(stores.store, request)
  const seconds = (performance.now() - start) / 1000
  const peakRssMb = process.resourceUsage().maxRSS / 1024
  const report: PlannerReport = { seconds, peakRssMb, sent, bytes }
  await close()
  await stores.close()
  process.send?.(report, () => process.disconnect())
})
