import type { Context, MiddlewareHandler } from 'hono'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeDeps, EdgeEnv, LimitState, Log, Permit } from '../deps.ts'
import { limitsRequests } from './limits.ts'

/**
 * Enforces tenants' request limits. Only POST counts; reading results is free. Fails open if the limiter is
 * unreachable.
 * @throws TurbineError `rate_limit_exceeded`, `too_many_in_flight`
 */
export const limitRate =
  ({ limiter, log }: Pick<EdgeDeps, 'limiter' | 'log'>): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    const tenant = c.get('tenant')
    if (c.req.method !== 'POST' || !limitsRequests(tenant.limits)) return next()
    const permit = await limiter.acquire(tenant).catch((err: unknown): Permit => {
      log.warn({ err, tenant: tenant.id }, 'limiter unreachable, requests pass uncounted')
      return { granted: true, release: () => {} }
    })
    if (!permit.granted) {
      describe(c, permit.requests)
      throw rejection(permit)
    }
    try {
      await next()
    } finally {
      await release(permit, tenant.id, log)
    }
    describe(c, permit.requests)
  }

/** A failed limiter must not fail a finished request. */
async function release(permit: Extract<Permit, { granted: true }>, tenant: string, log: Log) {
  try {
    await permit.release()
  } catch (err) {
    log.warn({ err, tenant }, 'request not released, its lease will expire')
  }
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

function rejection({ reason, retryAfterSeconds }: Extract<Permit, { granted: false }>): TurbineError {
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
