import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createKafka } from '../../infra/stream/kafka-connection.ts'
import { makeCertificates } from './certificates.ts'
import { serverProperties, user } from './kafka-properties.ts'
import { apart, cacheFolder, endWithThisProcess, freePorts, hasCommand, run } from './tools.ts'

/** Addresses of the listeners that want more than a connection. */
export interface SecureListeners {
  /** Certificate of the authority, PEM. */
  ca: string
  username: string
  password: string
  /** SASL over a plain connection. */
  sasl: string
  /** TLS without SASL. */
  tls: string
  saslTls: string
}

export interface KafkaServer {
  /** `host:port` of the listener that lets everybody in. */
  brokers: string
  secure?: SecureListeners
  /** Ends it as an operator does. */
  stop(): Promise<void>
  /** Ends it as a power loss does. */
  kill(): Promise<void>
  /** Starts it again, on the same data and ports. */
  start(): Promise<void>
  /** Lets it answer nothing until `thaw`, with its connections open. */
  freeze(): void
  thaw(): void
  /** Ends it and removes its data. */
  dispose(): Promise<void>
}

export interface KafkaServerOptions {
  /** Leads clients by way of another address, e.g. a proxy's: given the broker's own, it returns that one. */
  advertise?(address: string): Promise<string>
  /** Listeners with TLS and SASL as well; takes an `openssl`. */
  secure?: boolean
}

const pom = fileURLToPath(new URL('./kafka-pom.xml', import.meta.url))
const jvm = [
  ...['-Xms128m', '-Xmx320m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto'],
  '-Djava.net.preferIPv4Stack=true',
]
const readyWithinMs = 90_000

/** Whether the commands are there that a broker is fetched and run with. */
export function canStartKafka(): boolean {
  return hasCommand('java') && hasCommand('mvn') && hasCommand('openssl')
}

/**
 * Starts one Apache Kafka broker on free loopback ports, with its data in a temporary folder. Its jars come from Maven
 * Central the first time and stay in the user's cache. It ends with this process at the latest.
 */
export async function startKafka({
  secure = false,
  advertise,
}: KafkaServerOptions = {}): Promise<KafkaServer> {
  const jars = await kafkaJars()
  const folder = await mkdtemp(join(tmpdir(), 'turbine-kafka-'))
  const [controller, plain, sasl, tls, saslTls] = (await freePorts(5)) as [
    number,
    number,
    number,
    number,
    number,
  ]
  const ports = { controller, plain, sasl, tls, saslTls }
  const own = `127.0.0.1:${plain}`
  const advertised = advertise ? await advertise(own) : own
  await writeFile(join(folder, 'server.properties'), serverProperties(ports, { secure, advertised }))
  const ca = secure ? await makeCertificates(folder) : ''
  const classPath = join(jars, '*')
  await formatStorage(classPath, folder, { secure })
  const broker = new Broker(classPath, folder, own)
  await broker.start()
  return {
    brokers: advertised,
    secure: secure
      ? { ca, ...user, sasl: `127.0.0.1:${sasl}`, tls: `localhost:${tls}`, saslTls: `localhost:${saslTls}` }
      : undefined,
    start: () => broker.start(),
    stop: () => broker.end('SIGTERM'),
    kill: () => broker.end('SIGKILL'),
    freeze: () => broker.signal('SIGSTOP'),
    thaw: () => broker.signal('SIGCONT'),
    dispose: async () => {
      await broker.end('SIGKILL')
      await rm(folder, { recursive: true })
    },
  }
}

class Broker {
  readonly address: string
  readonly #command: string[]
  readonly #folder: string
  #process: ChildProcess | undefined

  constructor(classPath: string, folder: string, address: string) {
    this.#command = [...jvm, '-cp', classPath, 'kafka.Kafka', 'server.properties']
    this.#folder = folder
    this.address = address
  }

  async start(): Promise<void> {
    const child = spawn('java', this.#command, {
      ...apart,
      cwd: this.#folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.#process = child
    endWithThisProcess(child)
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text
    })
    for (const giveUp = Date.now() + readyWithinMs; !(await this.#answers()); await wait(100)) {
      if (child.exitCode !== null) throw new Error(`Kafka ended with code ${child.exitCode}: ${errors}`)
      if (Date.now() > giveUp) throw new Error(`Kafka does not answer within ${readyWithinMs} ms: ${errors}`)
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal)
  }

  /** An open port is not enough: the coordinators of groups and producers take a moment longer. */
  async #answers(): Promise<boolean> {
    const kafka = createKafka({ brokers: [this.address] })
    const once = { retries: 1 }
    const admin = kafka.admin({ retry: once })
    const producer = kafka.producer({ idempotent: true, retry: once })
    try {
      await admin.connect()
      await admin.describeGroups(['turbine-is-it-ready'])
      await producer.connect()
      return true
    } catch {
      return false
    } finally {
      await Promise.allSettled([admin.disconnect(), producer.disconnect()])
    }
  }
}

async function formatStorage(
  classPath: string,
  folder: string,
  { secure }: { secure: boolean },
): Promise<void> {
  const tool = (...args: string[]) => {
    return run('java', [...jvm, '-cp', classPath, 'kafka.tools.StorageTool', ...args], { cwd: folder })
  }
  const id = (await tool('random-uuid')).trim()
  const scram = ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((mechanism) => [
    '--add-scram',
    `${mechanism}=[name=${user.username},password=${user.password}]`,
  ])
  await tool('format', '-t', id, '-c', 'server.properties', ...(secure ? scram : []))
}

/** The folder of the broker's jars; Maven fetches them when they are not in the cache. */
async function kafkaJars(): Promise<string> {
  const [, version] = /<kafka.version>(.*)<\/kafka.version>/.exec(await readFile(pom, 'utf8'))!
  const jars = cacheFolder(`kafka-${version}`)
  if ((await readdir(jars).catch(() => [])).length > 0) return jars
  await mkdir(dirname(jars), { recursive: true })
  console.log(`Downloading Apache Kafka ${version} from Maven Central, once ...`)
  const fetched = await mkdtemp(`${jars}-`)
  const plugin = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies'
  await run('mvn', ['-q', '-B', '-f', pom, plugin, '-DincludeScope=runtime', `-DoutputDirectory=${fetched}`])
  // Whoever is first, when several test runs fetch at once, is who the cache is from.
  await rename(fetched, jars).catch(() => rm(fetched, { recursive: true }))
  return jars
}
