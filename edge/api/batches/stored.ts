import { putJson, putOnce, swapJson } from '../../../infra/store/json.ts'
import { getJson, listPages } from '../../../infra/store/store.ts'
import { traceparent } from '../../../infra/telemetry/tracing.ts'
import { type Batch, type CancelMark, isFinal, newBatch, type StoredBatch } from '../../contract/batch.ts'
import { invalid, notFound, retryLater } from '../../contract/errors.ts'
import { keys } from '../../contract/keys.ts'
import { type Control, encodeControl } from '../../contract/shard.ts'
import type { Tenant } from '../../contract/tenant.ts'
import { topics } from '../../contract/topics.ts'
import type { EdgeDeps } from '../../deps.ts'
import type { BatchAsk } from './request.ts'

const batchIdPattern = /^batch_[\w-]{1,128}$/

/** Reads a batch, with a pending cancellation applied. */
export async function findBatch(
  { store }: Pick<EdgeDeps, 'store'>,
  tenant: string,
  id: string,
): Promise<Batch | undefined> {
  if (!batchIdPattern.test(id)) return undefined
  const batch = (await getJson<StoredBatch>(store, keys.batch(tenant, id)))?.batch
  if (!batch || isFinal(batch.status) || batch.status === 'cancelling') return batch
  const mark = await getJson<CancelMark>(store, keys.batchCancel(tenant, id))
  return mark ? asCancelling(batch, mark) : batch
}

/** @throws TurbineError `batch_not_found` */
export async function requireBatch(
  deps: Pick<EdgeDeps, 'store'>,
  tenant: string,
  id: string,
): Promise<Batch> {
  const batch = await findBatch(deps, tenant, id)
  if (batch) return batch
  throw notFound('batch', id, 'GET /v1/batches lists all batches.')
}

/** Only its coordinator writes a batch, so the cancellation is in the mark before it is in the batch. */
const asCancelling = (batch: Batch, { cancelling_at }: CancelMark): Batch => ({
  ...batch,
  status: 'cancelling',
  cancelling_at,
})

export interface StartOptions {
  id: string
  /** Reads the request, unless a batch with the id exists. */
  ask(): Promise<BatchAsk>
  /** The request can be retried with this id, so what it stored stays for the retry. */
  repeatable: boolean
}

/**
 * Stores a batch and notifies the planners; returns when the store and the stream have it. For an existing id it
 * completes what may be missing and returns that batch.
 * @throws what `ask` throws; TurbineError `too_many_open_batches`; StoreUnavailableError, StreamUnavailableError
 */
export async function startBatch(
  deps: EdgeDeps,
  tenant: Tenant,
  { id, ask, repeatable }: StartOptions,
): Promise<Batch> {
  const made = await findBatch(deps, tenant.id, id)
  if (made && isFinal(made.status)) return made
  const wanted = made ? undefined : await ask()
  if (wanted) await assertRoom(deps, tenant)
  try {
    const batch = made ?? (await keepBatch(deps, tenant.id, id, wanted!))
    await putJson(deps.store, keys.openBatch(tenant.id, id), { tenant: tenant.id, batch: id })
    await notifyPlanners(deps, { type: 'batch_created', tenant: tenant.id, batch: id })
    return batch
  } catch (error) {
    // A retry may already have returned this batch.
    if (!repeatable) await withdraw(deps, tenant.id, id)
    throw error
  }
}

/** Not exact: two concurrent requests can both pass. The limit is against runaway clients. */
async function assertRoom({ store }: EdgeDeps, { id, limits: { openBatches } }: Tenant): Promise<void> {
  if (openBatches === undefined) return
  let open = 0
  for await (const page of listPages(store, `${keys.openBatches}${id}/`)) {
    open += page.length
    if (open >= openBatches)
      throw retryLater(
        'too_many_open_batches',
        `This tenant has reached its limit of ${openBatches} unfinished batches. Wait for one to end, or cancel one.`,
        { status: 429, retryAfterSeconds: 30 },
      )
  }
}

async function keepBatch(
  { store, now, reading: ofService }: EdgeDeps,
  tenant: string,
  id: string,
  { windowSeconds, outputExpiresAfter, can, ...ask }: BatchAsk,
): Promise<Batch> {
  const created_at = Math.floor(now() / 1000)
  const batch = newBatch({ ...ask, id, created_at, expires_at: created_at + windowSeconds })
  const reading = { ...ofService, can }
  const stored: StoredBatch = { tenant, batch, outputExpiresAfter, reading, traceparent: traceparent() }
  return (await putOnce(store, keys.batch(tenant, id), stored)).batch
}

/** The batch was not returned to anyone. A failure here must not hide the cause; at worst the batch runs unseen. */
async function withdraw({ store }: EdgeDeps, tenant: string, id: string): Promise<void> {
  await store.delete(keys.openBatch(tenant, id)).catch(() => undefined)
  await store.delete(keys.batch(tenant, id)).catch(() => undefined)
}

/**
 * Marks a batch as cancelled. Planners look for the mark; the notification only makes it faster.
 * @throws TurbineError `batch_not_found`, `batch_not_cancellable`; StoreUnavailableError
 */
export async function stopBatch(deps: EdgeDeps, tenant: string, id: string): Promise<Batch> {
  const batch = await requireBatch(deps, tenant, id)
  if (batch.status === 'cancelling' || batch.status === 'cancelled') return batch
  if (isFinal(batch.status))
    throw invalid(
      'batch_not_cancellable',
      `The batch ${id} is ${batch.status} and cannot be cancelled.`,
      'id',
    )
  const mark: CancelMark = { cancelling_at: Math.floor(deps.now() / 1000) }
  const marked = await swapJson(deps.store, keys.batchCancel(tenant, id), mark, undefined)
  if (marked === undefined) return requireBatch(deps, tenant, id)
  await notifyPlanners(deps, { type: 'batch_cancelled', tenant, batch: id }).catch((err: unknown) =>
    deps.log.warn({ err, batch: id }, 'planners not notified of a cancelled batch; they will find its mark'),
  )
  return asCancelling(batch, mark)
}

const notifyPlanners = ({ stream }: EdgeDeps, control: Control) =>
  stream.send(topics.control, [encodeControl(control)])
