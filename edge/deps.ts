import type { RequestIdVariables } from 'hono/request-id'
import type { FairBudget } from '../infra/fair-budget.ts'
import type { ImageSource } from '../infra/fetch/image-source.ts'
import type { Readiness } from '../infra/readiness.ts'
import type { SliceStores } from '../infra/store/slices.ts'
import type { Buckets, ObjectStore } from '../infra/store/store.ts'
import type { Stream } from '../infra/stream/stream.ts'
import type { TurbineError } from './contract/errors.ts'
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
  defaultTenant(): Promise<Tenant>
}

/** State of a tenant's limit. */
export interface LimitState {
  limit: number
  remaining: number
  /** Seconds until `remaining` is `limit` again. */
  resetSeconds: number
}

export type Permit =
  | { granted: true; requests?: LimitState; release(): void | Promise<void> }
  | { granted: false; reason: 'rate' | 'in_flight'; requests?: LimitState; retryAfterSeconds: number }

/** Counts a tenant's requests, over all instances of the edge. */
export interface Limiter {
  /** Counts one more request; a granted permit must be released after the response. */
  acquire(tenant: Tenant): Promise<Permit>
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
  stream: Pick<Stream, 'send'>
  store: ObjectStore
  /** Other buckets, for `s3://` URIs; absent without S3. */
  buckets?: Buckets
  /** The service's own one among them, which no tenant may name. */
  ownBucket?: string
  downloads: Downloads
  accounts: Accounts
  limiter: Limiter
  mailbox: Mailbox
  /** Secret that processors sign replies with; absent if they run in this process. */
  replySecret?: string
  /** The served models; the first is the default. */
  models(): ModelSummary[] | Promise<ModelSummary[]>
  /** Seconds until one more request than the `held` ones in flight may be accepted; 0: now. */
  roomIn(held: number): number
  /**
   * Admission of a request whose caller waits, before anything is stored: the 429 of one that would miss its deadline.
   * Absent where only processors know the queue; they decide on the job.
   */
  rejection?(job: Omit<CaptionJob, 'image'>): TurbineError | undefined
  readiness(): Readiness | Promise<Readiness>
  metrics: EdgeMetrics
  /** Replies and metrics are served elsewhere, by `operationsApp`; default: here. */
  operationsApart?: boolean
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

/** What the platform passes with a request. */
export interface RequestBindings {
  /** Ends the caller's connection; absent where a response whose body fails does so. */
  cutOff?(): void
}

/** Bindings of a request, and variables that the middleware sets for the routes. */
export interface EdgeEnv {
  Bindings: RequestBindings
  Variables: RequestIdVariables & { tenant: Tenant }
}
