import { join } from 'node:path'
import { isFinal, type StoredBatch } from '../../edge/contract/batch.ts'
import { keys } from '../../edge/contract/keys.ts'
import { groups, topicLayout, topics } from '../../edge/contract/topics.ts'
import { openDirectoryStore } from '../../infra/store/directory.ts'
import { getJson, type ObjectStore } from '../../infra/store/store.ts'
import { openSqliteStream } from '../../infra/stream/sqlite.ts'
import { createMetrics } from '../../infra/telemetry/metrics.ts'
import { startPlanner } from '../../processor/batches/planner/planner.ts'
import { gif } from '../../processor/batches/shard/shard.fixture.ts'
import { FakeCaptioner } from '../../processor/cli/captioner.fixture.ts'
import { withCrashMarks } from '../../processor/delivery/crash-marks.ts'
import { withDeadLetters } from '../../processor/delivery/dead-letters.ts'
import { Isolation } from '../../processor/delivery/isolation.ts'
import { batchJobs, measureBatches } from '../../processor/jobs/batch.ts'

/**
 * A planner and a processor in one process, until these batches are over: it aborts when it reads the content of a file,
 * or fetches an image, whose name has "poison" in it.
 */
const [dataDir, ...batches] = process.argv.slice(2)
const log = { info() {}, warn() {}, error() {} }
const opened = await openDirectoryStore(join(dataDir!, 'store'))
const stream = await openSqliteStream({ path: join(dataDir!, 'stream.db') })
await stream.ensureTopics(topicLayout(2))

const dieOf = (name: string) => {
  if (name.includes('poison')) process.abort()
}
const store: ObjectStore = Object.assign(Object.create(opened), {
  get: (key: string, range?: { start: number; end?: number }) => {
    if (key.includes('/content/')) dieOf(key)
    return opened.get(key, range)
  },
  put: opened.put.bind(opened),
  head: opened.head.bind(opened),
  list: opened.list.bind(opened),
  delete: opened.delete.bind(opened),
})

const isolation = new Isolation()
await startPlanner({ store, stream, log, isolation, owner: 'this-machine', now: Date.now })
const jobs = batchJobs({
  ...{
    store,
    stream,
    log,
    now: Date.now,
    captioner: new FakeCaptioner(),
    metrics: measureBatches(createMetrics()),
  },
  images: async (url) => {
    dieOf(url)
    return gif(url)
  },
})
// A real processor starts later than a planner: it warms up first.
await stream.consume({
  topic: topics.batch,
  group: groups.batch,
  maxInFlight: 4,
  handle: withDeadLetters(withCrashMarks(jobs, { store, isolation, now: Date.now }), {
    stream,
  }),
})

const isOver = async (id: string) => {
  const stored = await getJson<StoredBatch>(opened, keys.batch('acme', id))
  return stored !== undefined && isFinal(stored.batch.status)
}
for (;;) {
  if ((await Promise.all(batches.map(isOver))).every(Boolean)) process.exit(0)
  await new Promise((resolve) => setTimeout(resolve, 50))
}
