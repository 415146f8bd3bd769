import type { Limiter, RequestLimits } from '../deps.ts'
import type { Counted, Leased } from '../guard/limits.ts'
import type { Background, ObjectNamespace } from './objects.ts'

type Limits = Omit<RequestLimits, 'id'>

/** Calls of a limiter object. */
export interface LimiterCalls {
  count(limits: Limits): Promise<Counted>
  enter(limits: Limits): Promise<Leased>
  renew(lease: number): Promise<void>
  release(lease: number): Promise<void>
}

/** A lease that was not renewed for this time has lost its request, ms: a few renewals can get lost. */
export const leaseMs = 120_000
const renewMs = 30_000

/** Counts requests in Durable Objects, one for each count, over all locations of the edge. */
export function createObjectLimiter({
  objects,
  background,
}: {
  objects: ObjectNamespace<LimiterCalls>
  background: Background
}): Limiter {
  return {
    count: ({ id, ...limits }) => objects.getByName(id).count(limits),
    async enter({ id, ...limits }) {
      const object = objects.getByName(id)
      const place = await object.enter(limits)
      if (!place.granted) return place
      const renewing = setInterval(
        () => background(object.renew(place.lease).catch(() => undefined)),
        renewMs,
      )
      return {
        granted: true,
        release() {
          clearInterval(renewing)
          // The response does not wait for it; after a lost release the lease lapses.
          background(object.release(place.lease).catch(() => undefined))
        },
      }
    },
  }
}
