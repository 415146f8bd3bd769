import type { Context, MiddlewareHandler } from 'hono'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeDeps, EdgeEnv, LimitState, Log, Permit } from '../deps.ts'
import { limitsRequests } from './limits.ts'

/**
 * Holds tenants to their limits on requests. Only POST counts: it is what makes work; looking at results is free.
 * A limiter that is out of reach lets everybody pass.
 * @throws TurbineError `rate_limit_exceeded`, `too_many_in_flight`
 */
export const limitRate =
  ({ limiter, log }: Pick<EdgeDeps, 'limiter' | 'log'>): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    const tenant = c.get('tenant')
    if (c.req.method !== 'POST' || !limitsRequests(tenant.limits)) return next()
    const permit = await limiter.acquire(tenant).catch((err: unknown): Permit => {
      log.warn({ err, tenant: tenant.id }, 'the limiter is out of reach; requests pass uncounted')
      return { granted: true, release: () => {} }
    })
    if (!permit.granted) {
      describe(c, permit.requests)
      throw refusal(permit)
    }
    try {
      await next()
    } finally {
      await release(permit, tenant.id, log)
    }
    describe(c, permit.requests)
  }

/** A limiter that is gone must not fail an answer that is there. */
async function release(permit: Extract<Permit, { granted: true }>, tenant: string, log: Log) {
  try {
    await permit.release()
  } catch (err) {
    log.warn({ err, tenant }, 'a request could not be counted out; its lease ends by itself')
  }
}

/** OpenAI's headers. */
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

function refusal({ reason, retryAfterSeconds }: Extract<Permit, { granted: false }>): TurbineError {
  const details = { status: 429, retryAfterSeconds } as const
  return reason === 'rate'
    ? new TurbineError(
        `This tenant has sent its requests of this minute. Send this one again in ${retryAfterSeconds} s, or ask the operator for a higher limit.`,
        { ...details, code: 'rate_limit_exceeded' },
      )
    : new TurbineError(
        `This tenant has as many unanswered requests as it may have. Send this one again when one is answered.`,
        { ...details, code: 'too_many_in_flight' },
      )
}
