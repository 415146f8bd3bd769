import type { Context, MiddlewareHandler } from 'hono'
import { TurbineError } from '../contract/errors.ts'
import type { Tenant } from '../contract/tenant.ts'
import type { EdgeDeps, EdgeEnv, LimitRefusal, LimitState, Log, Place, RequestLimits } from '../deps.ts'
import { whenAnswered } from './responses.ts'

/** Requests that only read, for each that does work: a result is polled several times. */
const readsPerRequest = 10

/**
 * Enforces tenants' request limits. Requests that only read are counted apart, so that polling takes no work's place.
 * The place in flight is taken by `c.get('enter')`, when the body is there; at once where none comes. Fails open if the
 * limiter is unreachable.
 * @throws TurbineError `rate_limit_exceeded`, `too_many_in_flight`
 */
export const limitRate =
  ({ limiter, log }: Pick<EdgeDeps, 'limiter' | 'log'>): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    const limits = limitsOf(c.get('tenant'), c.req.method)
    const open = (err: unknown) => {
      log.warn({ err, tenant: limits.id }, 'limiter unreachable, requests pass uncounted')
      return undefined
    }
    const counts = limits.requestsPerMinute !== undefined || limits.inFlight !== undefined
    const counted = counts ? await limiter.count(limits).catch(open) : undefined
    if (counted && !counted.granted) throw refuse(c, counted)
    let place: Place | undefined
    c.set('enter', async () => {
      if (limits.inFlight === undefined || place) return
      const taken = await limiter.enter(limits).catch(open)
      if (taken && !taken.granted) throw refuse(c, taken)
      place = taken
    })
    try {
      if (!hasBody(c)) await c.get('enter')()
      await next()
    } finally {
      const taken = place
      if (taken) await whenAnswered(c, () => release(taken, limits.id, log))
    }
    describe(c, counted?.requests)
  }

const isRead = (method: string) => method === 'GET' || method === 'HEAD'

function limitsOf({ id, limits: { requestsPerMinute, inFlight } }: Tenant, method: string): RequestLimits {
  if (!isRead(method)) return { id, requestsPerMinute, inFlight }
  return {
    id: `${id}/reads`,
    requestsPerMinute: requestsPerMinute && requestsPerMinute * readsPerRequest,
    inFlight,
  }
}

/** Whether a body comes, whose route takes the place once it is there. */
function hasBody({ req, env }: Context<EdgeEnv>): boolean {
  if (isRead(req.method) || req.method === 'DELETE') return false
  // On Node the headers say it, and the request's stream is costly.
  if (env?.chunks === undefined) return req.raw.body !== null
  return req.header('transfer-encoding') !== undefined || Number(req.header('content-length') ?? 0) > 0
}

/** A failed limiter must not fail a finished request. */
async function release(place: Place, count: string, log: Log) {
  try {
    await place.release()
  } catch (err) {
    log.warn({ err, tenant: count }, 'request not released, its lease will expire')
  }
}

function refuse(c: Context<EdgeEnv>, refusal: LimitRefusal): TurbineError {
  describe(c, refusal.requests)
  return rejection(refusal)
}

/** Sets OpenAI's headers. */
function describe(c: Context<EdgeEnv>, requests: LimitState | undefined): void {
  if (!requests) return
  c.header('x-ratelimit-limit-requests', String(requests.limit))
  c.header('x-ratelimit-remaining-requests', String(requests.remaining))
  c.header('x-ratelimit-reset-requests', formatReset(requests.resetSeconds))
}

/** Seconds as OpenAI writes them: `0s`, `1s`, `6m0s`. */
export function formatReset(seconds: number): string {
  const whole = Math.ceil(seconds)
  const minutes = Math.floor(whole / 60)
  return minutes === 0 ? `${whole}s` : `${minutes}m${whole % 60}s`
}

function rejection({ reason, retryAfterSeconds }: LimitRefusal): TurbineError {
  const details = { status: 429, retryAfterSeconds } as const
  return reason === 'rate'
    ? new TurbineError(
        `This tenant has reached its requests per minute. Retry in ${retryAfterSeconds} s, or ask the operator for a higher limit.`,
        { ...details, code: 'rate_limit_exceeded' },
      )
    : new TurbineError(
        'This tenant has reached its limit of concurrent requests. Retry when one has completed.',
        { ...details, code: 'too_many_in_flight' },
      )
}
