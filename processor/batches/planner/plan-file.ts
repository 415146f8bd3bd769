import type { Slice } from '../../../infra/store/slices.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import { LineSplitter } from '../manifest/lines.ts'
import type { PlannedShard } from './plan.ts'

/** The plan of a batch whose manifest has been read to its end. */
export interface Plan {
  /** Where the manifest lies. */
  manifest: readonly Slice[]
  shards: readonly PlannedShard[]
  /** Lines that are not empty. */
  lines: number
  /** Lines that can be run. */
  usable: number
}

type Head = Omit<Plan, 'shards'>
/** `[start, end, firstLine, lines, ...duplicates]` */
type Row = [number, number, number, number, ...number[]]

const rowsAtOnce = 1000

/** The plan as it is kept: a line of JSON for its head, then one for each shard. */
export async function* encodePlan({ shards, ...head }: Plan): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder()
  yield encoder.encode(`${JSON.stringify(head)}\n`)
  for (let first = 0; first < shards.length; first += rowsAtOnce) {
    const rows = shards.slice(first, first + rowsAtOnce).map(encodeRow)
    yield encoder.encode(rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  }
}

const encodeRow = ({ start, end, firstLine, lines, duplicates }: PlannedShard): Row => [
  start,
  end,
  firstLine,
  lines,
  ...duplicates,
]

/** Reads what `encodePlan` made. */
export async function decodePlan(bytes: AsyncIterable<Uint8Array>): Promise<Plan> {
  const splitter = new LineSplitter()
  let head: Head | undefined
  const shards: PlannedShard[] = []
  for await (const chunk of bytes) {
    for (const { text } of splitter.push(chunk)) {
      if (head === undefined) head = JSON.parse(text!)
      else shards.push(decodeRow(JSON.parse(text!)))
    }
  }
  if (head === undefined) throw new RangeError('A plan begins with a line of JSON.')
  return { ...head, shards }
}

const decodeRow = ([start, end, firstLine, lines, ...duplicates]: Row): PlannedShard => ({
  start,
  end,
  firstLine,
  lines,
  duplicates,
})

/** The plan under a key; undefined when there is none. */
export async function readPlan(store: Pick<ObjectStore, 'get'>, key: string): Promise<Plan | undefined> {
  const object = await store.get(key)
  return object && decodePlan(object.body as ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>)
}
