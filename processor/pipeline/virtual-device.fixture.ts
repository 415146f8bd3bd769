import { setImmediate } from 'node:timers/promises'
import type { DeviceRun, RowGroup, RowResult, RunRow } from '../engine/batch.ts'
import type { DeviceResult } from '../engine/device.ts'
import { stepsBetweenJoins } from '../scheduling/time-left.ts'

/** A clock that stands still until all that waits for it is known. */
export class VirtualClock {
  now = 0
  readonly #waiting: { at: number; go(): void }[] = []

  wait(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.push({ at: this.now + ms, go: resolve })
    return promise
  }

  at(time: number, go: () => void): void {
    this.#waiting.push({ at: time, go })
  }

  /** Goes from one event to the next until there is none. */
  async play(after?: () => void): Promise<void> {
    for (;;) {
      await setImmediate()
      after?.()
      this.#waiting.sort((a, b) => a.at - b.at)
      const next = this.#waiting.shift()
      if (!next) return
      this.now = next.at
      next.go()
    }
  }
}

export interface VirtualTimes {
  /** Time of pictures and prompts, ms. */
  firstMs(group: RowGroup): number
  /** Time of a step with so many rows, ms. */
  stepMs(rows: number): number
  /** Ids that a row would make. */
  lengthOf(row: RunRow): number
}

interface Running {
  index: number
  row: RunRow
  ids: number[]
}

/** A device that makes ids step by step as the engine's does, on a virtual clock; rows join it where they may. */
export class VirtualDevice {
  readonly name = 'virtual'
  readonly #clock: VirtualClock
  readonly #times: VirtualTimes

  constructor(clock: VirtualClock, times: VirtualTimes) {
    this.#clock = clock
    this.#times = times
  }

  async run({ onMade, joining, ...first }: DeviceRun): Promise<DeviceResult> {
    const from = this.#clock.now
    const results: RowResult[] = []
    let running: Running[] = []
    let count = 0
    let stepsMs = 0
    let steps = 0

    const made = (those: Running[], ids: number): void => {
      for (const each of those) {
        const { index, row } = each
        const length = Math.min(this.#times.lengthOf(row), row.settings.maxTokens)
        each.ids.push(...new Array<number>(Math.min(ids, length - each.ids.length)).fill(index))
        const left = row.leaves !== undefined && Atomics.load(row.leaves, 0) !== 0
        const isOver = each.ids.length === length || left
        const ended = length < row.settings.maxTokens && !left
        if (isOver) {
          results[index] = { ids: each.ids, ended }
          running = running.filter((other) => other !== each)
        }
        onMade?.({ row: index, ids: [...each.ids], ...(isOver && { ended }) })
      }
    }
    const begin = async (group: RowGroup): Promise<void> => {
      const begun = group.rows.map((row): Running => ({ index: count++, row, ids: [] }))
      const ms = this.#times.firstMs(group)
      await this.#clock.wait(ms)
      running.push(...begun)
      joining?.onTime?.({ rows: begun.map(({ index }) => index), steps: 0, ms })
      made(begun, 1)
    }

    await begin(first)
    for (;;) {
      const group = joining && Atomics.load(joining.waiting, 0) > 0 ? joining.next(running.length) : undefined
      if (group) await begin(group)
      else if (running.length === 0) break
      if (running.length === 0) continue
      const left = Math.max(
        ...running.map(
          ({ row, ids }) => Math.min(this.#times.lengthOf(row), row.settings.maxTokens) - ids.length,
        ),
      )
      const next = Math.min(stepsBetweenJoins, left)
      const ms = next * this.#times.stepMs(running.length)
      await this.#clock.wait(ms)
      joining?.onTime?.({ rows: running.map(({ index }) => index), steps: next, ms })
      steps += next
      stepsMs += ms
      made([...running], next)
    }
    return {
      rows: results.slice(0, first.rows.length),
      inferenceMs: this.#clock.now - from,
      ...(!joining && { steps, stepsMs }),
    }
  }
}
