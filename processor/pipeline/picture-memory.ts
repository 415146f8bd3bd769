import { FairBudget, type Reservation } from '../../infra/fair-budget.ts'
import { memoryLimit } from '../../infra/memory.ts'
import { sizeOf } from '../decoding/loaders/loaded-image.ts'
import { mostPictureBytes, type PictureRule, pictureBytes, shapeOf } from '../models/pictures.ts'
import { type Lane, lanes } from '../scheduling/level.ts'

const MiB = 1024 ** 2
/** Enough to decode ahead of large batches of the largest pictures. */
const mostBytes = 2048 * MiB

/** Memory for decoded pictures that wait or run, bytes. @param memoryMb the setting; 0: by what the process may use */
export const pictureMemory = (memoryMb: number, limit = memoryLimit()): number =>
  memoryMb > 0 ? memoryMb * MiB : Math.floor(Math.min(limit / 4, mostBytes))

/** What is asked for the pictures of a caption. */
export interface PictureAsk {
  lane: Lane
  owner?: string
  /** Bytes of all its pictures. */
  bytes: number
  signal?: AbortSignal
}

/**
 * Bounds the bytes of pictures that are decoded and not captioned yet. Each lane has a half, so that interactive images do
 * not wait for those of batches; in a lane, owners share fairly, and none can take more than is left for others.
 *
 * @example
 * const held = await memory.reserve({ lane: 'batch', owner: 'acme', bytes: estimatedBytes(rule, image) })
 */
export class PictureMemory {
  readonly #budgets: Readonly<Record<Lane, FairBudget>>

  constructor(bytes: number) {
    const share = () => new FairBudget({ size: Math.floor(bytes / lanes.length), leavesRoom: true })
    this.#budgets = { interactive: share(), batch: share() }
  }

  /** Bytes that are reserved. */
  reserved(lane: Lane): number {
    return this.#budgets[lane].reserved
  }

  /** Undefined if there is no room now. */
  tryReserve({ lane, owner = '', bytes }: PictureAsk): Reservation | undefined {
    return this.#budgets[lane].tryReserve(owner, bytes)
  }

  /**
   * Resolves when there is room. What is more than an owner can ever have waits until it holds nothing else.
   * @throws the signal's reason
   */
  reserve({ lane, owner = '', bytes, signal }: PictureAsk): Promise<Reservation> {
    return this.#budgets[lane].reserve(owner, bytes, { signal })
  }
}

/** Bytes that the pixels of an image will take, by its header; of one without a readable header, the most that any takes. */
export function estimatedBytes(rule: PictureRule, image: Uint8Array): number {
  if (rule.kind !== 'tiles' && rule.kind !== 'patches') return mostPictureBytes(rule)
  const size = sizeOf(image)
  if (size === undefined) return mostPictureBytes(rule)
  // It may be turned before it is cut.
  return Math.max(bytesOf(rule, size.width, size.height), bytesOf(rule, size.height, size.width))
}

function bytesOf(rule: PictureRule, width: number, height: number): number {
  try {
    return pictureBytes(rule, shapeOf(rule, width, height))
  } catch {
    // It will be refused when it is decoded.
    return 0
  }
}
