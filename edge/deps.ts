import type { RequestIdVariables } from 'hono/request-id'
import type { ImageSource } from '../infra/fetch/image-source.ts'
import type { Readiness } from '../infra/readiness.ts'
import type { Buckets, ObjectStore } from '../infra/store/store.ts'
import type { Stream } from '../infra/stream/stream.ts'
import type { TurbineError } from './contract/errors.ts'
import type { CaptionJob } from './contract/job.ts'
import type { ModelSummary } from './contract/model.ts'
import type { Tenant } from './contract/tenant.ts'
import type { Mailbox } from './submit/mailbox.ts'

/** One answered request. `route` is the pattern, so that there are few of them. */
export interface RequestSample {
  method: string
  route: string
  status: number
  seconds: number
}

export interface EdgeMetrics {
  observe(sample: RequestSample): void
  /** Everything this process measures, in the text format of Prometheus. */
  render(): Promise<string>
  contentType: string
}

/** The part of a logger that the edge needs. */
export interface Log {
  warn(fields: Record<string, unknown>, message: string): void
  error(fields: Record<string, unknown>, message: string): void
}

/** Who may call. */
export interface Accounts {
  /** Whether any API key exists. Where none does, only this machine may call, as the tenant `default`. */
  configured(): Promise<boolean>
  /** Whose key this is; undefined when it is nobody's. */
  tenantOfKey(key: string): Promise<Tenant | undefined>
  /** The tenant `default` as it is kept, with its grants. */
  defaultTenant(): Promise<Tenant>
}

/** What a tenant has left of one of its limits. */
export interface LimitState {
  limit: number
  remaining: number
  /** Seconds until `remaining` is `limit` again. */
  resetSeconds: number
}

export type Permit =
  | { granted: true; requests?: LimitState; release(): void | Promise<void> }
  | { granted: false; reason: 'rate' | 'in_flight'; requests?: LimitState; retryAfterSeconds: number }

/** Counts a tenant's requests, over all instances of the edge where there are several. */
export interface Limiter {
  /** One more request of the tenant; whoever is granted it releases it when it is answered. */
  acquire(tenant: Tenant): Promise<Permit>
}

/** Everything around the edge: it holds no state and touches no platform itself. */
export interface EdgeDeps {
  stream: Pick<Stream, 'send'>
  store: ObjectStore
  /** Other buckets, for `s3://` addresses; absent where there is no S3. */
  buckets?: Buckets
  accounts: Accounts
  limiter: Limiter
  mailbox: Mailbox
  /** What processors sign their replies with; absent where they are in this process. */
  replySecret?: string
  /** The served models; the first is the default. */
  models(): ModelSummary[] | Promise<ModelSummary[]>
  /** Seconds until there may be room for one more request than the `held` that are not answered yet; 0: there is. */
  roomIn(held: number): number
  /**
   * Decides on a request whose caller waits, before anything is kept of it: the 429 of one that could not be answered
   * in time. Absent where that is known only to the processors, who decide on the job then.
   */
  rejection?(job: Omit<CaptionJob, 'image'>): TurbineError | undefined
  readiness(): Readiness | Promise<Readiness>
  metrics: EdgeMetrics
  /** Images by their addresses. It alone decides which addresses are safe. */
  images: ImageSource
  /** Unix ms. */
  now(): number
  /** Something that was never there before, e.g. a UUID; of letters, digits, `-` and `_`. */
  newId(): string
  log: Log
  /** Deadline of a request that names none, ms after it came. */
  sloMs: number
  version: string
}

/** What the guards leave for the routes. */
export interface EdgeEnv {
  Variables: RequestIdVariables & { tenant: Tenant }
}
