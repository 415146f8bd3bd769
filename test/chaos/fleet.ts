import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openS3, type S3 } from '../../infra/store/s3.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { type RefusingStore, startRefusingStore } from '../hostile/refusing-store.ts'
import { type KafkaServer, startKafka } from '../servers/kafka.ts'
import { createBucket, type S3Access, type S3Server, startS3 } from '../servers/s3.ts'
import { freePorts, run } from '../servers/tools.ts'
import { type Disk, makeDisk } from './disk.ts'
import { Member } from './member.ts'
import type { Action, Role, Server } from './plan.ts'
import { isRole } from './plan.ts'
import { startProxy, type TcpProxy } from './proxy.ts'

const cli = fileURLToPath(new URL('../../processor/cli/main.ts', import.meta.url))

/** A service of several processes, on real servers that can be disturbed. */
export interface ChaosFleet {
  members: readonly Member[]
  /** Addresses of the edges; a restart keeps them. */
  edges: readonly string[]
  kafka: Disturbed<KafkaServer>
  s3: Disturbed<S3Server>
  /** Absent where none can be made, and where the store is somebody else's. */
  disk?: Disk
  /** Checks what can be done here: the servers of others are not stopped. */
  can(action: Action, target: Role | Server): boolean
  bucket(name: string): ObjectStore
  createBucket(name: string): Promise<void>
  /** Runs one of the operator's commands, and fails when it does. */
  command(args: string[]): Promise<string>
  /** Makes an API key for a tenant. */
  keyOf(tenant: string): Promise<string>
  /** Of the logs of all processes. */
  folder: string
  dispose(options: { keepLogs: boolean }): Promise<void>
}

/** A server behind a proxy; each is absent where it cannot be had. */
export interface Disturbed<S> {
  server?: S
  proxy?: TcpProxy
}

export interface FleetOptions {
  roles: Record<Role, number>
  /** Called when a process ended that should not have, and when one ends late. */
  onFault(name: string, what: string): void
}

/** As small as it gets on two cores. A caption is late after so long, which keeps a slow machine from rejecting. */
const settings = {
  TURBINE_REPLY_SECRET: 'a secret for tests and nothing else',
  TURBINE_ALLOW_PRIVATE_URLS: 'on',
  TURBINE_SLO_MS: '10000',
  TURBINE_INTRA_OP_THREADS: '1',
  TURBINE_PARTITIONS: '4',
  TURBINE_LOG_LEVEL: 'warn',
  TURBINE_LOG_FORMAT: 'text',
  TURBINE_SHUTDOWN_MS: '10000',
}

/** Starts servers, proxies and processes. `KAFKA_BROKERS` and `S3_ENDPOINT` name servers that run already. */
export async function startFleet({ roles, onFault }: FleetOptions): Promise<ChaosFleet> {
  const folder = await mkdtemp(join(tmpdir(), 'turbine-chaos-'))
  const [kafka, s3] = await Promise.all([openKafka(), openStore()])
  const bucketName = `turbine-${Date.now().toString(36)}`
  const env = {
    ...settings,
    KAFKA_BROKERS: kafka.brokers,
    S3_ENDPOINT: s3.access.endpoint,
    S3_BUCKET: bucketName,
    AWS_ACCESS_KEY_ID: s3.access.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.access.secretAccessKey,
    TURBINE_DATA_DIR: join(folder, 'data'),
  }
  const command = (args: string[]) =>
    run(process.execPath, [cli, ...args], { env: { ...process.env, ...env } })
  const ports = await freePorts(roles.edge)
  const members = (Object.keys(roles) as Role[]).flatMap((role) =>
    Array.from({ length: roles[role] }, (_, index) => {
      const port = role === 'edge' ? String(ports[index]) : '0'
      return new Member({ role, index, folder, env: { ...env, TURBINE_PORT: port }, onFault })
    }),
  )
  // Straight to the server: what the suite itself does is not to be disturbed.
  const client: S3 = openS3({ ...s3.direct, region: 'us-east-1' })
  const fleet: ChaosFleet = {
    members,
    edges: ports.map((port) => `http://127.0.0.1:${port}`),
    kafka,
    s3,
    disk: s3.disk,
    folder,
    command,
    bucket: client.bucket,
    createBucket: (name) => createBucket(s3.direct, name),
    can(action, target) {
      if (isRole(target)) return true
      if (action === 'fill') return s3.disk !== undefined
      const { server, proxy } = target === 'kafka' ? kafka : s3
      const byProxy = action === 'delay' || action === 'cut' || action === 'silence'
      return (byProxy ? proxy : server) !== undefined
    },
    async keyOf(tenant) {
      return /sk-turbine-[\w-]+/.exec(await command(['keys', 'create', '--tenant', tenant]))![0]
    },
    async dispose({ keepLogs }) {
      await Promise.all(members.map((member) => member.end()))
      client.close()
      for (const { proxy } of [kafka, s3]) proxy?.close()
      await s3.refusing?.close()
      await Promise.all([kafka.server?.dispose(), s3.server?.dispose()])
      await s3.disk?.remove()
      if (!keepLogs) await rm(folder, { recursive: true })
    },
  }
  try {
    await fleet.createBucket(bucketName)
    await command(['topics', 'create'])
    await Promise.all(members.map((member) => member.start()))
    return fleet
  } catch (error) {
    await fleet.dispose({ keepLogs: true })
    throw error
  }
}

async function openKafka(): Promise<Disturbed<KafkaServer> & { brokers: string }> {
  const given = process.env.KAFKA_BROKERS
  // Clients follow the addresses that brokers give them, so that no proxy helps in front of somebody else's.
  if (given) return { brokers: given }
  let proxy: TcpProxy | undefined
  const advertise = async (address: string) => {
    proxy = await startProxy(address)
    return proxy.address
  }
  const server = await startKafka({ advertise })
  return { server, proxy, brokers: server.brokers }
}

interface Store extends Disturbed<S3Server> {
  /** By way of the proxy, where there is one. */
  access: S3Access
  direct: S3Access
  /** Refuses the objects of one bucket, between the proxy and the server. */
  refusing?: RefusingStore
  disk?: Disk
}

async function openStore(): Promise<Store> {
  const { S3_ENDPOINT: endpoint, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = process.env
  if (endpoint && AWS_ACCESS_KEY_ID && AWS_SECRET_ACCESS_KEY) {
    const direct = { endpoint, accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY }
    if (!endpoint.startsWith('http:')) return { access: direct, direct }
    return { direct, ...(await disturb(direct)) }
  }
  const disk = await makeDisk()
  const server = await startS3({ folder: disk?.folder })
  const { accessKeyId, secretAccessKey } = server
  const direct = { endpoint: server.endpoint, accessKeyId, secretAccessKey }
  return { server, disk, direct, ...(await disturb(direct)) }
}

/** Puts a proxy, and what refuses some objects, in front of a server. */
async function disturb(direct: S3Access): Promise<Pick<Store, 'access' | 'proxy' | 'refusing'>> {
  const refusing = await startRefusingStore(direct.endpoint)
  const proxy = await startProxy(new URL(refusing.endpoint).host)
  return { refusing, proxy, access: { ...direct, endpoint: `http://${proxy.address}` } }
}
