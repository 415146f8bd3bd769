import type { FailedRows, MadeIds, RowResult } from '../engine/batch.ts'
import type { DeviceBatch } from '../scheduling/batcher.ts'
import type { Lane } from '../scheduling/level.ts'
import type { RowOnItsWay } from '../scheduling/time-left.ts'

/** Images that began together. */
export interface RowsBegun<Work> {
  batch: DeviceBatch<Work>
  /** Unix ms. */
  from: number
  /** Whether they joined a batch that ran. */
  joined: boolean
}

interface Group<Work> extends RowsBegun<Work> {
  /** Rows that are running. */
  left: number
  captioned: Captioned<Work>[]
}

/** Image that has its caption. */
export interface Captioned<Work> {
  image: DeviceBatch<Work>['images'][number]
  /** Unix ms. */
  at: number
}

interface Row<Work> {
  image: DeviceBatch<Work>['images'][number]
  group: Group<Work>
  /** Ids so far. */
  ids: number
}

export interface RunningBatchOptions<Work> {
  onIds(image: Row<Work>['image'], ids: number[]): void
  /** Called when a row has its result. */
  onEnded(image: Row<Work>['image'], result: RowResult, begun: RowsBegun<Work>): void
  onFailed(image: Row<Work>['image'], error: unknown): void
  /** Called when the last of a group has ended or failed. */
  onDone(begun: RowsBegun<Work>, captioned: readonly Captioned<Work>[]): void
  /** Unix ms. */
  now(): number
}

/** What a device runs: groups of rows, of which later ones joined while those before them ran. */
export class RunningBatch<Work> {
  readonly #options: RunningBatchOptions<Work>
  readonly #rows = new Map<number, Row<Work>>()
  #begun = 0

  constructor(options: RunningBatchOptions<Work>) {
    this.#options = options
  }

  /** Rows that began so far. */
  get begun(): number {
    return this.#begun
  }

  hasRowsOf(lane: Lane): boolean {
    return [...this.#rows.values()].some(({ image }) => image.lane === lane)
  }

  /** Rows that run. */
  rows(): RowOnItsWay[] {
    return [...this.#rows.values()].map(({ image: { mostIds = 1 }, group: { batch }, ids }) => ({
      batch,
      mostIds,
      ids,
    }))
  }

  /** Adds a group of rows; their indexes follow those of the rows before them. */
  begin(begun: RowsBegun<Work>): void {
    const group = { ...begun, left: begun.batch.images.length, captioned: [] }
    for (const image of begun.batch.images) this.#rows.set(this.#begun++, { image, group, ids: 0 })
  }

  /** What a row began with. */
  groupOf(row: number): RowsBegun<Work> | undefined {
    return this.#rows.get(row)?.group
  }

  made({ row: index, ids, ended }: MadeIds): void {
    const row = this.#rows.get(index)
    if (!row) return
    row.ids = ids.length
    this.#options.onIds(row.image, ids)
    if (ended !== undefined) this.end(index, { ids, ended })
  }

  /** Gives a row its result, if it has none yet. */
  end(index: number, result: RowResult): void {
    this.#leave(index, ({ image, group }) => {
      group.captioned.push({ image, at: this.#options.now() })
      this.#options.onEnded(image, result, group)
    })
  }

  fail(rows: FailedRows['rows'], error: unknown): void {
    for (const index of rows) this.#leave(index, ({ image }) => this.#options.onFailed(image, error))
  }

  /** Fails all rows that run. */
  failAll(error: unknown): void {
    this.fail([...this.#rows.keys()], error)
  }

  #leave(index: number, tell: (row: Row<Work>) => void): void {
    const row = this.#rows.get(index)
    if (!row) return
    this.#rows.delete(index)
    tell(row)
    if (--row.group.left === 0) this.#options.onDone(row.group, row.group.captioned)
  }
}
