import { crc32 } from 'node:zlib'

/** Partition of a key, 0 to `partitions - 1`; stable. */
export function partitionOf(key: string, partitions: number): number {
  return crc32(key) % partitions
}
