import { setTimeout as delay } from 'node:timers/promises'
import OpenAI from 'openai'
import { openS3 } from '../../infra/store/s3.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import type { Picture } from '../e2e/pictures.ts'
import { runTurbine, startTurbine, type Turbine, temporaryFolder } from '../e2e/turbine.ts'
import { startKafka } from '../servers/kafka.ts'
import { startS3 } from '../servers/s3.ts'
import { startWorker } from '../servers/worker.ts'

/** A whole service on this machine: the edge in workerd, a real Kafka, a real S3, and processes that share the work. */
export interface Fleet {
  /** The edge's address. */
  readonly url: string
  /** Ends the edge and starts another one: what waited there is gone. */
  restartEdge(): Promise<void>
  kafka: Awaited<ReturnType<typeof startKafka>>
  s3: Awaited<ReturnType<typeof startS3>>
  /** What a process of the fleet has in its environment. */
  env: Record<string, string>
  /** The service's own bucket. */
  store: ObjectStore
  bucket(name: string): ObjectStore
  /** Starts one more; resolves when it is ready. */
  start(role: 'processor' | 'planner' | 'edge', args?: string[]): Promise<Part>
  /** Runs one of the operator's commands, and fails when it does. */
  run(args: string[]): Promise<string>
  /** Makes an API key for a tenant. */
  keyOf(tenant: string): Promise<string>
  /** OpenAI's own client, with the address and the key changed and nothing else. */
  openai(apiKey: string): OpenAI
  dispose(): Promise<void>
}

/** A process of the fleet. */
export interface Part {
  url: string
  turbine: Turbine
}

const replySecret = 'a secret for tests and nothing else'

export interface FleetOptions {
  /** More variables of the processes. */
  env?: Record<string, string>
  /** Within how long a caption is wanted, ms: the edge and the processors have to know the same. */
  sloMs?: number
}

/** Starts the servers and the edge; processors and planners are started by the test. */
export async function startFleet({ env: more = {}, sloMs = 500 }: FleetOptions = {}): Promise<Fleet> {
  const [kafka, s3] = await Promise.all([startKafka(), startS3()])
  await s3.createBucket('turbine')
  const shared = {
    TURBINE_REPLY_SECRET: replySecret,
    TURBINE_ALLOW_PRIVATE_URLS: 'on',
    TURBINE_SLO_MS: String(sloMs),
  }
  const env = {
    KAFKA_BROKERS: kafka.brokers,
    S3_ENDPOINT: s3.endpoint,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    ...shared,
    TURBINE_PARTITIONS: '4',
    TURBINE_DATA_DIR: await temporaryFolder(),
    TURBINE_PORT: '0',
    TURBINE_LOG_LEVEL: 'warn',
    ...more,
  }
  const run = async (args: string[]) => {
    const { code, stdout, stderr } = await runTurbine(args, { env })
    if (code !== 0) throw new Error(`turbine ${args.join(' ')} ended with ${code}: ${stderr}`)
    return stdout
  }
  await run(['topics', 'create'])
  let worker = await startWorker({ kafka, s3, vars: shared })
  const { bucket } = openS3({ ...s3, region: 'us-east-1' })
  return {
    get url() {
      return worker.url
    },
    async restartEdge() {
      await worker.dispose()
      worker = await startWorker({ kafka, s3, vars: shared })
    },
    kafka,
    s3,
    env,
    store: bucket('turbine'),
    bucket,
    run,
    async start(role, args = []) {
      const turbine = startTurbine([role, ...args], { env })
      const [, url] = await turbine.prints(/is ready at (http:\S+)/)
      return { url: url!, turbine }
    },
    async keyOf(tenant) {
      const printed = await run(['keys', 'create', '--tenant', tenant])
      return /sk-turbine-[\w-]+/.exec(printed)![0]
    },
    openai: (apiKey) => new OpenAI({ baseURL: `${worker.url}/v1`, apiKey }),
    async dispose() {
      await worker.dispose()
      await Promise.all([kafka.dispose(), s3.dispose()])
    },
  }
}

/** Asks again until the answer is what is waited for. */
export async function until<T>(
  ask: () => Promise<T>,
  done: (answer: T) => boolean,
  everyMs = 200,
): Promise<T> {
  for (;;) {
    const answer = await ask()
    if (done(answer)) return answer
    await delay(everyMs)
  }
}

/** The lines of a JSONL text. */
export const linesOf = <T>(text: string): T[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T)

/** A file of so many lines for `/v1/captions`, `line-0` and on, with the pictures inside them in turn. */
export function manifestOf(pictures: Picture[], lines: number): File {
  const text = Array.from({ length: lines }, (_, i) => {
    const image = Buffer.from(pictures[i % pictures.length]!.jpeg).toString('base64')
    return `${JSON.stringify({ custom_id: `line-${i}`, image_url: `data:image/jpeg;base64,${image}` })}\n`
  })
  return new File(text, 'work.jsonl')
}
