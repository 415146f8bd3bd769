import { BoundedMap } from '../../infra/bounded-map.ts'
import { TurbineError } from '../contract/errors.ts'
import { TokenBucket } from './limits.ts'

/** Wrong keys of one address per minute. */
const perMinute = 60
/** Addresses that are counted; the one that was wrong longest ago is forgotten first. */
const maxAddresses = 10_000

/** Counts the wrong API keys of each address, so that they are not guessed, nor looked up in the store for ever. */
export interface WrongKeys {
  /** @throws TurbineError `too_many_wrong_keys` while an address has sent too many */
  assertFew(address: string): void
  count(address: string): void
}

/** @example const wrongKeys = createWrongKeys({ now: Date.now }) */
export function createWrongKeys({ now }: { now(): number }): WrongKeys {
  const buckets = new BoundedMap<string, TokenBucket>(maxAddresses)
  return {
    assertFew(address) {
      const bucket = buckets.get(address)
      bucket?.refill({ perMinute, now: now() })
      if (bucket && bucket.state().remaining < 1) throw tooMany(bucket.secondsToNext())
    },
    count(address) {
      const bucket = buckets.get(address) ?? new TokenBucket()
      bucket.refill({ perMinute, now: now() })
      bucket.take()
      buckets.set(address, bucket)
    },
  }
}

const tooMany = (retryAfterSeconds: number) =>
  new TurbineError(
    `Too many requests with a wrong API key came from this address. Retry in ${retryAfterSeconds} s with a valid key.`,
    { status: 429, code: 'too_many_wrong_keys', retryAfterSeconds },
  )
