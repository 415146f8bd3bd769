import type { Context } from 'hono'
import { sha256 } from '../accounts/api-keys.ts'
import { TurbineError } from '../contract/errors.ts'
import { newestFirst } from '../contract/ids.ts'
import { keys } from '../contract/keys.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { type Claim, claimKey } from './idempotency-claim.ts'

type ClaimDeps = Pick<EdgeDeps, 'store' | 'now' | 'newId' | 'log'>

export interface OnceOptions {
  /** Starts the ids of what is made, e.g. `batch_`. */
  prefix: string
  /** Whether repeats must have the first request's body; only where the body is held in memory anyway. */
  sameBody?: boolean
}

/** Of an answer that an earlier request brought about. */
export const replayedHeader = 'Idempotent-Replayed'

/**
 * Creates something once for each `Idempotency-Key`. `create` is given the id; for a repeat that is the first
 * request's, and it answers with what is there under it already, or creates what the first failed to.
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
 * The claim of the request's `Idempotency-Key`; undefined when it has none. Keys are a tenant's own, for each route.
 * @throws TurbineError `idempotency_key_invalid`, `idempotency_key_reused`, `idempotency_key_in_use`
 */
export async function claimRequest(
  c: Context<EdgeEnv>,
  deps: ClaimDeps,
  { makeId, sameBody }: { makeId(): string; sameBody: boolean },
): Promise<Claim | undefined> {
  const idempotencyKey = c.req.header('idempotency-key')
  if (idempotencyKey === undefined) return undefined
  assertWellFormed(idempotencyKey)
  const hash = await sha256(`${c.req.path}\n${idempotencyKey}`)
  const fingerprint = sameBody ? await fingerprintOf(c) : undefined
  return claimKey(deps, { key: keys.idempotency(c.get('tenant').id, hash), fingerprint, makeId })
}

/** Options can be in the query, so it counts too. */
async function fingerprintOf(c: Context<EdgeEnv>): Promise<string> {
  const body = await sha256(new Uint8Array(await c.req.arrayBuffer()))
  return sha256(`${new URL(c.req.url).search}\n${body}`)
}

function assertWellFormed(key: string) {
  if (/^[\x20-\x7e]{1,255}$/.test(key)) return
  throw new TurbineError(
    'The Idempotency-Key must have 1 to 255 printable ASCII characters, like a UUID. Send another, or none.',
    { status: 400, code: 'idempotency_key_invalid', param: 'Idempotency-Key' },
  )
}
