import type { RequestIdVariables } from 'hono/request-id'
import type { Decoders } from '../infra/compression/content-encoding.ts'
import type { FairBudget, Reservation } from '../infra/fair-budget.ts'
import type { ImageSource } from '../infra/fetch/image-source.ts'
import type { Readiness } from '../infra/readiness.ts'
import type { SliceStores } from '../infra/store/slices.ts'
import type { Buckets, ObjectStore } from '../infra/store/store.ts'
import type { Stream } from '../infra/stream/stream.ts'
import type { Reading } from './contract/batch.ts'
import type { TurbineError } from './contract/errors.ts'
import type { ImageLimits } from './contract/image.ts'
import type { CaptionJob } from './contract/job.ts'
import type { ModelSummary } from './contract/model.ts'
import type { Tenant } from './contract/tenant.ts'
import type { Mailbox } from './submit/mailbox.ts'

/** Metrics of one request. `route` is the pattern, so that there are few of them. */
export interface RequestSample {
  method: string
  route: string
  status: number
  seconds: number
}

export interface EdgeMetrics {
  observe(sample: RequestSample): void
  /** All metrics of this process, in Prometheus' text format. */
  render(): Promise<string>
  contentType: string
}

export interface Log {
  warn(fields: Record<string, unknown>, message: string): void
  error(fields: Record<string, unknown>, message: string): void
}

/** API keys and their tenants. */
export interface Accounts {
  /** Whether any API key exists. Without one, only this machine may call, as the tenant `default`. */
  configured(): Promise<boolean>
  /** Tenant of an API key; undefined for an unknown key. */
  tenantOfKey(key: string): Promise<Tenant | undefined>
  /** Whether a key was found to be valid before, so that `tenantOfKey` has it at hand. */
  knows(key: string): boolean
  defaultTenant(): Promise<Tenant>
}

/** State of a tenant's limit. */
export interface LimitState {
  limit: number
  remaining: number
  /** Seconds until `remaining` is `limit` again. */
  resetSeconds: number
}

/** Request that is beyond a limit. */
export interface LimitRefusal {
  granted: false
  reason: 'rate' | 'in_flight'
  requests?: LimitState
  retryAfterSeconds: number
}

/** Place of a request in flight. */
export interface Place {
  granted: true
  release(): void | Promise<void>
}

/** Requests that are counted together: those of one tenant that do work, or those that only read. */
export interface RequestLimits {
  /** Name of the count. */
  id: string
  requestsPerMinute?: number
  inFlight?: number
}

/** Counts requests, over all instances of the edge. */
export interface Limiter {
  /** Counts one more request. It is refused while too many are in flight, but takes no place yet. */
  count(limits: RequestLimits): Promise<{ granted: true; requests?: LimitState } | LimitRefusal>
  /** Takes a place in flight, which must be released after the response. */
  enter(limits: RequestLimits): Promise<Place | LimitRefusal>
}

/** Memory of request bodies and uploads, shared by tenants. */
export interface BodyMemory {
  /**
   * Reserves bytes for a request, maybe after a wait, which ends when its caller leaves.
   * @throws TurbineError `too_many_bytes_in_flight`, `memory_full`; the reason of the request's signal
   */
  reserve(tenant: string, bytes: number, request: Pick<Request, 'signal'>): Promise<Reservation>
  /** @throws TurbineError `too_many_bytes_in_flight`, `memory_full` */
  grow(tenant: string, reserved: Reservation, bytes: number): void
}

/** Body in memory, which it counts against until it is released. */
export interface ReceivedBody {
  /** Empty once they are forgotten. */
  readonly bytes: Uint8Array
  /** SHA-256 in hex; to be asked for before the bytes are forgotten. */
  readonly digest: string
  /** Frees the bytes, which nothing may use any more, and keeps the memory for what was made of them. */
  forget(): void
  /** Takes more memory for what the body leads to, e.g. the image at an address; given back with it. */
  hold(reserved: Pick<Reservation, 'release'>): void
  /** Drops the bytes and gives the memory back; idempotent. */
  release(): void
}

/** How request bodies are received. */
export interface BodyPolicy {
  memory: BodyMemory
  /** Minimum rate of a body, bytes per second; 0: any. */
  minRate: number
  /** Maximum memory of a body that is streamed into the store, bytes. */
  streamBytes: number
  /** Encodings of bodies that are undone. */
  decoders: Decoders
}

/** What callers download at their own pace. */
export interface Downloads {
  /** The same stores, over connections that nothing else waits for. */
  stores: SliceStores
  /** One for each download, by tenant. */
  places: FairBudget
  /** Time in which a caller must take the next bytes, ms. */
  stallMs: number
}

/** Dependencies of the edge, which itself is stateless and platform-independent. */
export interface EdgeDeps {
  stream: Pick<Stream, 'send' | 'sync'>
  store: ObjectStore
  /** Other buckets, for `s3://` URIs; absent without S3. */
  buckets?: Buckets
  /** The service's own one among them, which no tenant may name. */
  ownBucket?: string
  downloads: Downloads
  accounts: Accounts
  limiter: Limiter
  bodies: BodyPolicy
  mailbox: Mailbox
  /** Secret that processors sign replies with; absent if they run in this process. */
  replySecret?: string
  /** The served models; the first is the default. */
  models(): ModelSummary[] | Promise<ModelSummary[]>
  /** Whether jobs for a model go to topics of its own; default: to those that are shared. */
  ownTopics?(model: string): boolean | Promise<boolean>
  /** How requests are read: aliases of models, ignored parameters. */
  reading: Reading
  /** Seconds until one more request of a tenant than the `held` ones of all may be accepted; 0: now. */
  roomIn(held: number, tenant: { id: string; held: number }): number
  /**
   * Admission of a request whose caller waits, before anything is stored: the 429 of one that would miss its deadline.
   * Absent where only processors know the queue; they decide on the job.
   */
  rejection?(job: Omit<CaptionJob, 'image'>): TurbineError | undefined
  /** An admitted request ends without a job, e.g. since its image cannot be fetched. */
  withdraw?(id: string): void
  readiness(): Readiness | Promise<Readiness>
  metrics: EdgeMetrics
  /** Replies and metrics are served elsewhere, by `operationsApp`; default: here. */
  operationsApart?: boolean
  /** How much of an image is accepted. Default: as the settings' defaults. */
  imageLimits?: ImageLimits
  /** Images by URL. It alone decides which URLs are safe. */
  images: ImageSource
  /** Unix ms. */
  now(): number
  /** Unique text of letters, digits, `-` and `_`, e.g. a UUID. */
  newId(): string
  log: Log
  /** Default deadline of a request, ms after its arrival. */
  sloMs: number
  version: string
}

/** What a platform knows of a request beside the request itself. */
export interface RequestPlatform {
  /** IP address of the caller. */
  address?: string
  /** Ends the caller's connection; absent where a response whose body fails does so. */
  cutOff?(): void
  /** Chunks of the body as they arrive; default: those of the request's stream. */
  chunks?(): AsyncIterator<Uint8Array>
}

/** Variables that the middleware sets for the routes. */
export interface EdgeEnv {
  Bindings: RequestPlatform
  Variables: RequestIdVariables & {
    tenant: Tenant
    /** Takes the request's place in flight, once. @throws TurbineError `too_many_in_flight` */
    enter(): Promise<void>
    /** Settles when the response is written that has begun; absent where it is written as a whole. */
    writing?: Promise<void>
    /** Parameters of the request that were ignored. */
    ignored?: readonly string[]
    /** Set by `receiveBody`. */
    body: ReceivedBody
    /** Set by `receiveStream`. */
    chunks: AsyncGenerator<Uint8Array>
  }
}
