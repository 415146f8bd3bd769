import type { SliceStores } from '../../../infra/store/slices.ts'
import type { Stream } from '../../../infra/stream/stream.ts'
import type { Clock, Outages } from '../../delivery/outages.ts'

/** What the batches of a planner share. */
export interface RunDeps extends SliceStores {
  stream: Pick<Stream, 'send'>
  clock: Clock
  outages: Outages
  owner: string
  /** Whether pruned lines are captioned again when a batch is done before its time. */
  repay: boolean
  /** Shards that a batch may have in the stream. `needed`: lines per second that it takes to be done in time. */
  window(needed: number): number
  /** Lets a few large manifests be read at a time. */
  inTurn<T>(read: () => Promise<T>): Promise<T>
  /** A place among the few batches that may begin their files early; undefined when all are taken. */
  takePlace(): (() => void) | undefined
  onLines(more: number): void
  onShardDone(): void
}
