import type { RequestIdVariables } from 'hono/request-id'
import type { ObjectStore } from '../infra/store/store.ts'
import type { Stream } from '../infra/stream/stream.ts'
import type { ModelSummary } from './contract/model.ts'
import type { Mailbox } from './mailbox.ts'

/** Whether one more request can be taken now. */
export type Admission = { admit: true } | { admit: false; retryAfterSeconds: number }

export interface Readiness {
  ready: boolean
  /** What was looked at, e.g. `{ model: { ok: false, message: 'warming up' } }`. */
  checks: Record<string, { ok: boolean; message?: string }>
}

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

/**
 * The bytes behind an address that a caller gave. It alone decides which addresses are safe.
 * Rejects with an error whose `code` starts with `image_url_` when the address is at fault.
 */
export type FetchImage = (
  url: string,
  options: { maxBytes: number; signal: AbortSignal },
) => Promise<Uint8Array>

/** Everything around the edge: it holds no state and touches no platform itself. */
export interface EdgeDeps {
  stream: Pick<Stream, 'send'>
  store: ObjectStore
  mailbox: Mailbox
  /** The served models; the first is the default. */
  models(): ModelSummary[]
  /** `held`: requests that were let in and are not answered yet. */
  admission(held: number): Admission
  readiness(): Readiness | Promise<Readiness>
  metrics: EdgeMetrics
  fetchImage: FetchImage
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
  Variables: RequestIdVariables & { tenant: string }
}
