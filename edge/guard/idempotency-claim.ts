import { getVersioned, swapJson } from '../../infra/store/json.ts'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeDeps } from '../deps.ts'

/** What the store keeps of an idempotency key. */
interface StoredClaim {
  /** Of what the request makes: a repeat makes the same one. */
  id: string
  /** SHA-256 of what was asked for, in hex; absent where any request may come under the key. */
  fingerprint?: string
  /** `claimed`: a request is at work, or died at it; `released`: it failed; `accepted`: its work will be done. */
  state: 'claimed' | 'released' | 'accepted'
  /** The attempt that wrote it: what a store reports as somebody else's can be one's own, written by a lost try. */
  owner: string
  /** Unix ms. */
  claimedAt: number
}

/** One request's hold of an idempotency key. */
export interface KeyClaim {
  readonly id: string
  /** `own`: this request does the work; `running`: another one is at it; `accepted`: an earlier one has done it. */
  readonly standing: 'own' | 'running' | 'accepted'
  /** The work is promised durably: repeats are given its outcome. Never rejects. */
  accepted(): Promise<void>
  /** The work was not done, for this reason: the next repeat does it at once, under the same id. Never rejects. */
  failed(error: unknown): Promise<void>
}

export interface ClaimRequest {
  /** The store's key. */
  key: string
  fingerprint?: string
  /** The id of what is made, if nothing was made yet. */
  makeId(): string
}

/**
 * A claim that is not accepted after this long is taken over: its edge died in between. Longer than a caller is ever
 * held, so that nobody is at work on it any more.
 */
export const takeOverMs = 30_000
/** Keys are forgotten after a day. */
export const claimExpiryMs = 24 * 3_600_000

/** Each turn that gains nothing means that another request gained something. */
const maxTurns = 8

/**
 * Claims an idempotency key in the store, so that it holds over restarts and over all edges.
 * @throws TurbineError `idempotency_key_reused`, `idempotency_key_in_use`; StoreUnavailableError
 */
export async function claimKey(
  deps: Pick<EdgeDeps, 'store' | 'now' | 'newId' | 'log'>,
  { key, fingerprint, makeId }: ClaimRequest,
): Promise<KeyClaim> {
  const { store } = deps
  const owner = deps.newId()
  const taken = (id: string): StoredClaim => ({
    id,
    fingerprint,
    state: 'claimed',
    owner,
    claimedAt: deps.now(),
  })
  const firstId = makeId()
  for (let turn = 0; turn < maxTurns; turn++) {
    const first = taken(firstId)
    const made = await swapJson(store, key, first, undefined)
    if (made) return holdOf(deps, key, first, made)
    const found = await getVersioned<StoredClaim>(store, key)
    if (!found) continue
    const { value: claim, etag } = found
    if (claim.owner === owner) return holdOf(deps, key, claim, etag)
    const expired = deps.now() - claim.claimedAt > claimExpiryMs
    if (!expired) {
      assertSame(claim, fingerprint)
      if (claim.state === 'accepted') return holdOf(deps, key, claim, etag, 'accepted')
      const fresh = deps.now() - claim.claimedAt < takeOverMs
      if (claim.state === 'claimed' && fresh) return holdOf(deps, key, claim, etag, 'running')
    }
    const next = taken(expired ? firstId : claim.id)
    const replaced = await swapJson(store, key, next, etag)
    if (replaced) return holdOf(deps, key, next, replaced)
  }
  throw keyInUse()
}

/** For a repeat that came while the first request is still at work. */
export const keyInUse = () =>
  new TurbineError('A request with this Idempotency-Key is still at work. Send the request again.', {
    status: 409,
    code: 'idempotency_key_in_use',
    param: 'Idempotency-Key',
    retryAfterSeconds: 1,
    retriable: true,
  })

function holdOf(
  { store, log }: Pick<EdgeDeps, 'store' | 'log'>,
  key: string,
  claim: StoredClaim,
  etag: string,
  standing: KeyClaim['standing'] = 'own',
): KeyClaim {
  let settled = standing === 'accepted'
  const settle = async (change: Partial<StoredClaim>) => {
    if (settled) return
    settled = true
    try {
      // Where it was taken over meanwhile, it is not ours to change.
      await swapJson(store, key, { ...claim, ...change }, etag)
    } catch (err) {
      log.warn(
        { err, id: claim.id },
        'an idempotency key could not be updated; repeats wait until it is stale',
      )
    }
  }
  return {
    id: claim.id,
    standing,
    accepted: () => settle({ state: 'accepted' }),
    failed: (error) =>
      // Where the request itself was wrong, nothing was made, and a corrected one may come under the key.
      settle({ state: 'released', fingerprint: isCallersFault(error) ? undefined : claim.fingerprint }),
  }
}

const isCallersFault = (error: unknown) =>
  error instanceof TurbineError && error.status < 500 && error.status !== 429

function assertSame(claim: StoredClaim, fingerprint: string | undefined) {
  if (claim.fingerprint === undefined || claim.fingerprint === fingerprint) return
  throw new TurbineError(
    'This Idempotency-Key came with another request before. Use a new key for each new request.',
    { status: 422, code: 'idempotency_key_reused', param: 'Idempotency-Key' },
  )
}
