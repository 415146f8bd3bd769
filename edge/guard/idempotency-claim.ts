import { getVersioned, swapJson } from '../../infra/store/json.ts'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeDeps } from '../deps.ts'

/** Idempotency key as stored. */
interface StoredClaim {
  /** Id of what the request creates: a retry creates the same one. */
  id: string
  /** SHA-256 of the request, in hex; absent if any request may use the key. */
  fingerprint?: string
  /** `claimed`: a request is in progress, or crashed; `released`: it failed; `accepted`: it will complete. */
  state: 'claimed' | 'released' | 'accepted'
  /** Request that wrote it: a conflict in the store can be caused by one's own lost attempt. */
  owner: string
  /** Unix ms. */
  claimedAt: number
}

/** Claim of an idempotency key by one request. */
export interface KeyClaim {
  readonly id: string
  /** `own`: this request does the work; `running`: another one does; `accepted`: an earlier one has done it. */
  readonly standing: 'own' | 'running' | 'accepted'
  /** Marks the work as durably accepted: retries get its result. Never rejects. */
  accepted(): Promise<void>
  /** Releases the claim: the next retry does the work with the same id. Never rejects. */
  failed(error: unknown): Promise<void>
}

export interface ClaimRequest {
  /** Store key. */
  key: string
  fingerprint?: string
  /** Makes the id, unless an earlier request made one. */
  makeId(): string
}

/**
 * A claim not accepted after this time is taken over, ms: its edge has crashed. Longer than any response is held, so
 * that no request still works on it.
 */
export const takeOverMs = 30_000
/** Keys expire after a day, ms. */
export const claimExpiryMs = 24 * 3_600_000

/** Each failed attempt means that another request succeeded. */
const maxTries = 8

/**
 * Claims an idempotency key in the store, so that it holds across restarts and edges.
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
  for (let tries = 0; tries < maxTries; tries++) {
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

/** For a retry while the first request is still in progress. */
export const keyInUse = () =>
  new TurbineError('A request with this Idempotency-Key is still in progress. Retry the request.', {
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
      // No change if it was taken over.
      await swapJson(store, key, { ...claim, ...change }, etag)
    } catch (err) {
      log.warn({ err, id: claim.id }, 'idempotency key not updated; retries wait until it is stale')
    }
  }
  return {
    id: claim.id,
    standing,
    accepted: () => settle({ state: 'accepted' }),
    failed: (error) =>
      // An invalid request created nothing, and a corrected one may use the key.
      settle({ state: 'released', fingerprint: isCallersFault(error) ? undefined : claim.fingerprint }),
  }
}

const isCallersFault = (error: unknown) =>
  error instanceof TurbineError && error.status < 500 && error.status !== 429

function assertSame(claim: StoredClaim, fingerprint: string | undefined) {
  if (claim.fingerprint === undefined || claim.fingerprint === fingerprint) return
  throw new TurbineError(
    'This Idempotency-Key was used with another request. Use a new key for each new request.',
    { status: 422, code: 'idempotency_key_reused', param: 'Idempotency-Key' },
  )
}
