/** Where a tenant's bytes are: contents of files and outputs, or parts of uploads, which files may consist of. */
export type StorageArea = 'files' | 'uploads'

/** Bytes that a tenant stores, under `keys.usage`: counted by edges for tenants with a limit, corrected by the sweeper. */
export interface StorageUsage {
  files: number
  uploads: number
  /** Times of the last corrections, unix ms. */
  counted?: Partial<Record<StorageArea, number>>
}

export const noUsage: StorageUsage = { files: 0, uploads: 0 }

export const totalUsage = ({ files, uploads }: StorageUsage) => files + uploads
