import type { LimitFunction } from 'p-limit'
import type { FairBudget } from '../../../infra/fair-budget.ts'
import type { SliceStores } from '../../../infra/store/slices.ts'
import type { Stream } from '../../../infra/stream/stream.ts'
import type { Clock, Outages } from '../../delivery/outages.ts'
import type { SendWindow } from './send-window.ts'
import type { BatchRecord, BatchState } from './state.ts'

/** Services and limits that the batches of a planner share. */
export interface PlannerServices extends SliceStores {
  stream: Pick<Stream, 'send'>
  clock: Clock
  outages: Outages
  /** Whether jobs for a model go to topics of its own; default: to those that are shared. */
  ownTopics?(model: string): boolean | Promise<boolean>
  /** Name of the planner in the store. */
  owner: string
  /** Captions pruned lines again when a batch is done early; default: false. */
  repay?: boolean
  sendWindow: SendWindow
  /** Places of large manifests that are read at a time, shared between tenants. */
  manifestPlaces: FairBudget
  /** Limits batches whose files are written early. */
  earlyFilesLimit: LimitFunction
  /** Aborts when the planner shuts down. */
  signal: AbortSignal
  onLines?(more: number): void
  onShardDone?(): void
}

/** State and services that the parts of one batch's lifecycle share. */
export interface BatchContext extends PlannerServices {
  state: BatchState
  record: BatchRecord
  /** Aborts when this planner stops running the batch. */
  signal: AbortSignal
}
