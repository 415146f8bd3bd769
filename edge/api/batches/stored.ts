import { putJson, putOnce, swapJson } from '../../../infra/store/json.ts'
import { getJson, listPages } from '../../../infra/store/store.ts'
import { traceparent } from '../../../infra/telemetry/tracing.ts'
import { type Batch, type CancelMark, isFinal, newBatch, type StoredBatch } from '../../contract/batch.ts'
import { TurbineError } from '../../contract/errors.ts'
import { keys } from '../../contract/keys.ts'
import { type Control, encodeControl } from '../../contract/shard.ts'
import type { Tenant } from '../../contract/tenant.ts'
import { topics } from '../../contract/topics.ts'
import type { EdgeDeps } from '../../deps.ts'
import type { BatchAsk } from './request.ts'

const batchIdPattern = /^batch_[\w-]{1,128}$/

/** The tenant's batch as callers see it; undefined when there is none. */
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
  throw new TurbineError(`There is no batch "${id.slice(0, 80)}". GET /v1/batches lists what there is.`, {
    status: 404,
    code: 'batch_not_found',
    param: 'id',
  })
}

/** Only its coordinator writes a batch, so that it is cancelled is known from the mark before it is in the batch. */
const asCancelling = (batch: Batch, { cancelling_at }: CancelMark): Batch => ({
  ...batch,
  status: 'cancelling',
  cancelling_at,
})

export interface StartOptions {
  id: string
  /** Reads what the batch is to be, unless there is one of the id already. */
  ask(): Promise<BatchAsk>
  /** The request can come again under this id, so what it began stays for the repeat to find. */
  repeatable: boolean
}

/**
 * Keeps a batch and tells the planners; returns when the store and the stream have it. For an id that is there
 * already it makes up for what may be missing, and returns that batch.
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
    await tellPlanners(deps, { type: 'batch_created', tenant: tenant.id, batch: id })
    return batch
  } catch (error) {
    // Where a repeat can come, one may have been promised this very batch meanwhile.
    if (!repeatable) await withdraw(deps, tenant.id, id)
    throw error
  }
}

/** Two requests at a time can both find the last place free: the limit is against runaway clients. */
async function assertRoom({ store }: EdgeDeps, { id, limits: { openBatches } }: Tenant): Promise<void> {
  if (openBatches === undefined) return
  let open = 0
  for await (const page of listPages(store, `${keys.openBatches}${id}/`)) {
    open += page.length
    if (open >= openBatches) throw tooManyOpen(openBatches)
  }
}

async function keepBatch(
  { store, now }: EdgeDeps,
  tenant: string,
  id: string,
  { windowSeconds, outputExpiresAfter, ...ask }: BatchAsk,
): Promise<Batch> {
  const created_at = Math.floor(now() / 1000)
  const batch = newBatch({ ...ask, id, created_at, expires_at: created_at + windowSeconds })
  const stored: StoredBatch = { tenant, batch, outputExpiresAfter, traceparent: traceparent() }
  return (await putOnce(store, keys.batch(tenant, id), stored)).batch
}

/** Nobody was promised the batch. Failing at this must not hide the cause, and at worst the batch is run for nobody. */
async function withdraw({ store }: EdgeDeps, tenant: string, id: string): Promise<void> {
  await store.delete(keys.openBatch(tenant, id)).catch(() => undefined)
  await store.delete(keys.batch(tenant, id)).catch(() => undefined)
}

/**
 * Marks a batch as one to cancel. The mark is what counts, and planners look for it; telling them makes it quicker.
 * @throws TurbineError `batch_not_found`, `batch_not_cancellable`; StoreUnavailableError
 */
export async function stopBatch(deps: EdgeDeps, tenant: string, id: string): Promise<Batch> {
  const batch = await requireBatch(deps, tenant, id)
  if (batch.status === 'cancelling' || batch.status === 'cancelled') return batch
  if (isFinal(batch.status)) throw notCancellable(batch)
  const mark: CancelMark = { cancelling_at: Math.floor(deps.now() / 1000) }
  const marked = await swapJson(deps.store, keys.batchCancel(tenant, id), mark, undefined)
  if (marked === undefined) return requireBatch(deps, tenant, id)
  await tellPlanners(deps, { type: 'batch_cancelled', tenant, batch: id }).catch((err: unknown) =>
    deps.log.warn(
      { err, batch: id },
      'the planners could not be told of a cancelled batch; they find its mark',
    ),
  )
  return asCancelling(batch, mark)
}

const tellPlanners = ({ stream }: EdgeDeps, control: Control) =>
  stream.send(topics.control, [encodeControl(control)])

const tooManyOpen = (limit: number) =>
  new TurbineError(
    `This tenant has ${limit} unfinished batches, as many as it may have. Wait for one to end, or cancel one.`,
    { status: 429, code: 'too_many_open_batches', retryAfterSeconds: 30 },
  )

const notCancellable = ({ id, status }: Batch) =>
  new TurbineError(`The batch ${id} is ${status} and cannot be cancelled.`, {
    status: 400,
    code: 'batch_not_cancellable',
    param: 'id',
  })
