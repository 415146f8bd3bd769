import type { Context } from 'hono'
import { sha256 } from '../accounts/api-keys.ts'
import { invalid } from '../contract/errors.ts'
import { newestFirst } from '../contract/ids.ts'
import { keys } from '../contract/keys.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { claimKey, type KeyClaim } from './idempotency-claim.ts'

type ClaimDeps = Pick<EdgeDeps, 'store' | 'now' | 'newId' | 'log'>

export interface OnceOptions {
  /** Prefix of ids, e.g. `batch_`. */
  prefix: string
  /** Retries must have the first request's body; only where the body is buffered anyway. */
  sameBody?: boolean
}

/** Set on responses that repeat the result of an earlier request. */
export const replayedHeader = 'Idempotent-Replayed'

/**
 * Creates something once per `Idempotency-Key`. `create` gets the id, for a retry that of the first request, and
 * returns what exists under it, or creates it.
 * @throws TurbineError `idempotency_key_invalid`, `idempotency_key_reused`, and what `create` throws
 *
 * @example
 * const file = await createdOnce(c, deps, { prefix: 'file-' }, (id) => createFile(deps, form, id))
 */
export async function createdOnce<T>(
  c: Context<EdgeEnv>,
  deps: ClaimDeps,
  { prefix, sameBody = false }: OnceOptions,
  create: (id: string) => Promise<T>,
): Promise<T> {
  const makeId = () => `${prefix}${newestFirst(deps.now(), deps.newId())}`
  const claim = await claimRequest(c, deps, { makeId, sameBody })
  if (!claim) return create(makeId())
  try {
    const created = await create(claim.id)
    if (claim.standing === 'accepted') c.header(replayedHeader, 'true')
    await claim.accepted()
    return created
  } catch (error) {
    if (claim.standing === 'own') await claim.failed(error)
    throw error
  }
}

/**
 * Claims the request's `Idempotency-Key`; undefined without one. Keys are scoped to tenant and path.
 * @throws TurbineError `idempotency_key_invalid`, `idempotency_key_reused`, `idempotency_key_in_use`
 */
export async function claimRequest(
  c: Context<EdgeEnv>,
  deps: ClaimDeps,
  { makeId, sameBody }: { makeId(): string; sameBody: boolean },
): Promise<KeyClaim | undefined> {
  const idempotencyKey = c.req.header('idempotency-key')
  if (idempotencyKey === undefined) return undefined
  assertWellFormed(idempotencyKey)
  const hash = sha256(`${c.req.path}\n${idempotencyKey}`)
  const fingerprint = sameBody ? fingerprintOf(c) : undefined
  return claimKey(deps, { key: keys.idempotency(c.get('tenant').id, hash), fingerprint, makeId })
}

/** Includes the query, since options can be there. */
const fingerprintOf = (c: Context<EdgeEnv>): string =>
  sha256(`${new URL(c.req.url).search}\n${c.get('body').digest}`)

function assertWellFormed(key: string) {
  if (/^[\x20-\x7e]{1,255}$/.test(key)) return
  throw invalid(
    'idempotency_key_invalid',
    'The Idempotency-Key must have 1 to 255 printable ASCII characters, like a UUID.',
    'Idempotency-Key',
  )
}
