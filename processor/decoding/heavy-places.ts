import { FairBudget } from '../../infra/fair-budget.ts'
import type { Lane } from '../scheduling/level.ts'

export interface HeavyImage {
  lane: Lane
  owner: string
  /** Memory that it takes, bytes. */
  bytes: number
  /** Interrupts it for an interactive image; absent where that was done often enough. */
  interrupt?(): void
  signal?: AbortSignal
}

/**
 * Memory for images that take much of it: shared fairly between the owners of a lane; interactive images come before
 * those of batches, which are interrupted for them.
 *
 * @example
 * const leave = await places.enter({ lane: 'batch', owner: 'acme', bytes: 100e6, interrupt: () => decoder.kill('preempted') })
 */
export class HeavyPlaces {
  readonly #bytes: number
  readonly #lanes: Record<Lane, FairBudget>
  readonly #inside = new Set<HeavyImage>()
  /** Interactive images whose turn it is, and that wait for those of batches to leave. */
  #urgent = 0
  #left = Promise.withResolvers<void>()

  constructor(bytes: number) {
    this.#bytes = bytes
    this.#lanes = { interactive: new FairBudget({ size: bytes }), batch: new FairBudget({ size: bytes }) }
  }

  /** Resolves when there is room. @returns what is called at the end. @throws the signal's reason */
  async enter(image: HeavyImage): Promise<() => void> {
    const { lane, owner, bytes, signal } = image
    const turn = await this.#lanes[lane].reserve(owner, bytes, { signal })
    if (lane === 'interactive') await this.#enterBeforeBatches(image)
    else await this.#enterAfterCallers(image)
    return () => {
      this.#inside.delete(image)
      turn.release()
      this.#notify()
    }
  }

  async #enterBeforeBatches(image: HeavyImage): Promise<void> {
    this.#urgent++
    while (!this.#fits(image)) {
      const left = this.#left.promise
      const interruptible = [...this.#inside].filter(({ lane, interrupt }) => lane === 'batch' && interrupt)
      interruptible.at(-1)?.interrupt?.()
      await left
    }
    this.#inside.add(image)
    this.#urgent--
    this.#notify()
  }

  async #enterAfterCallers(image: HeavyImage): Promise<void> {
    while (this.#urgent > 0 || !this.#fits(image)) await this.#left.promise
    this.#inside.add(image)
  }

  #fits({ bytes }: HeavyImage): boolean {
    const taken = [...this.#inside].reduce((sum, inside) => sum + inside.bytes, 0)
    return taken + bytes <= this.#bytes
  }

  #notify(): void {
    this.#left.resolve()
    this.#left = Promise.withResolvers()
  }
}
