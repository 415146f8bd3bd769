import type { ObjectStore } from '../../infra/store/store.ts'

/** What the commands on keys and tenants need from outside. */
export interface TenantsEnvironment {
  /** The service's object store. */
  openStore(): Promise<ObjectStore>
  /** Where the service keeps its own state. */
  ownBucket(): string
  stdout: { write(text: string): unknown }
  stderr: { write(text: string): unknown }
}

/** Works with the store, and closes it. */
export async function withStore<T>(
  { openStore }: TenantsEnvironment,
  work: (store: ObjectStore) => Promise<T>,
): Promise<T> {
  const store = await openStore()
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}
