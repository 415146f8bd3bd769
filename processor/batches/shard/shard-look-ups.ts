import { keys } from '../../../edge/contract/keys.ts'
import type { ShardJob } from '../../../edge/contract/shard.ts'
import { type Tenant, tenantSchema } from '../../../edge/contract/tenant.ts'
import { cached } from '../../../infra/cached.ts'
import { getJson, type ObjectStore } from '../../../infra/store/store.ts'

const cancelLookMs = 1_000
const tenantLookMs = 10_000

export interface ShardLookUpsOptions {
  store: ObjectStore
  /** Unix ms. */
  now(): number
}

/** What every line of a shard asks the store for, looked up now and then. */
export interface ShardLookUps {
  /** The tenant as it is kept; one that was never written has no grants. */
  tenantOf(id: string): Promise<Tenant>
  /** Whether the batch is to stop. */
  isCancelled(job: Pick<ShardJob, 'tenant' | 'batch'>): Promise<boolean>
}

export function createLookUps({ store, now }: ShardLookUpsOptions): ShardLookUps {
  const hasMark = cached({
    load: async (mark) => (await store.head(mark)) !== undefined,
    forMs: cancelLookMs,
    now,
  })
  return {
    tenantOf: cached({
      load: async (id) => tenantSchema.parse((await getJson(store, keys.tenant(id))) ?? { id }),
      forMs: tenantLookMs,
      now,
    }),
    isCancelled: ({ tenant, batch }) => hasMark(keys.batchCancel(tenant, batch)),
  }
}
