import type { Tensor } from 'onnxruntime-node'
import {
  type Caches,
  concatRows,
  emptyCaches,
  grows,
  type InputMetadata,
  joinSlots,
  takeRows,
} from './caches.ts'
import type { GenerateMetadata } from './graph.ts'
import {
  advanceRow,
  featuresOf,
  type GenerateRow,
  idsLeft,
  int64,
  padPrompts,
  type RowResult,
  type RunningRow,
  rowFeeds,
  startRow,
} from './rows.ts'

/** What a generator needs of an `InferenceSession`. */
export interface GenerateSession {
  readonly inputMetadata: readonly InputMetadata[]
  run(feeds: Record<string, Tensor>, fetches: string[]): Promise<Record<string, Tensor | undefined>>
}

export interface GenerateOptions {
  /** Ids of each run, for the rows that are running; default: all in one run. */
  chunk?: number | ((rows: number[]) => number)
  /**
   * Called with new ids of a row after each run. Rows count from 0, those that joined behind the others. False lets the
   * row leave: its place is free, its result is what it has.
   */
  onTokens?: (row: number, ids: number[]) => unknown
  /**
   * Asked between runs for rows that join, with the number of rows that are running. The first run of rows is then their prompts
   * and one id, so that nobody waits for more.
   */
  more?: (running: number) => GenerateRow[] | Promise<GenerateRow[]>
  /** Called with rows that joined and whose prompts could not be run: the others go on. Default: none goes on. */
  onFailed?: (rows: number[], error: unknown) => void
  /** Called after each run. */
  onRun?: (run: GeneratorRun) => void
}

/** One run of the session. */
export interface GeneratorRun {
  /** Rows in it. */
  rows: number[]
  /** Whether it was their first, of their prompts. */
  first: boolean
  /** Ids of each row. */
  ids: number
  ms: number
}

export interface GeneratorOptions {
  session: GenerateSession
  metadata: GenerateMetadata
  /** First ids of an encoder-decoder's captions, the start id first. */
  startIds?: number[]
  /** Id that a caption ends with when it reaches its most ids. */
  forcedEndId?: number
  /** Seed of a row that has none. */
  chooseSeed?: () => number
}

/** Makes ids of rows on one session. */
export interface Generator {
  /** Results in the order of the rows, those that joined behind the others. */
  generate(rows: GenerateRow[], options?: GenerateOptions): Promise<RowResult[]>
}

/** Generates with a session of `decoderGraph` or `encoderGraph`. Rows of one run must fit into the device's memory. */
export function openGenerator(options: GeneratorOptions): Generator {
  return {
    generate: (rows, run = {}) =>
      options.metadata.form === 'decoder'
        ? generateInChunks(options, rows, run)
        : generateWhole(options, rows, run),
  }
}

const randomSeed = () => Math.floor(Math.random() * 2 ** 32)

/** Rows that run together. */
interface Batch {
  rows: RunningRow[]
  caches: Caches
  /** For each row, 1 for each slot of growing caches that holds an id. */
  masks: Uint8Array[]
}

async function generateInChunks(
  { session, metadata, forcedEndId, chooseSeed = randomSeed }: GeneratorOptions,
  first: GenerateRow[],
  { chunk, onTokens, more, onFailed, onRun }: GenerateOptions,
): Promise<RowResult[]> {
  const results: RowResult[] = []
  const numbers = new Map<RunningRow, number>()
  let count = 0
  const isWhole = chunk === undefined
  const caches = cacheInputs(session, metadata)
  const run = { session, metadata, caches }
  const numberOf = (running: RunningRow) => numbers.get(running)!
  const end = (running: RunningRow, result: RowResult) => {
    results[numberOf(running)] = result
    numbers.delete(running)
  }
  const timed = async (
    rows: RunningRow[],
    first: boolean,
    make: () => Promise<{ batch: Batch; made: number[][] }>,
  ) => {
    const start = performance.now()
    const ran = await make()
    const ids = ran.made[0]?.length ?? 0
    onRun?.({ rows: rows.map(numberOf), first, ids, ms: performance.now() - start })
    return ran
  }

  /** Tells new ids; the rows that go on. */
  const settle = (batch: Batch, made: number[][]): Batch => {
    const staying = batch.rows.flatMap((running, at) => {
      const { ids, ended } = upToMost(made[at]!, { most: idsLeft(running), metadata, forcedEndId })
      advanceRow(running, ids)
      const leaves = onTokens?.(numberOf(running), ids) === false
      if (!ended && !leaves && idsLeft(running) > 0) return [at]
      end(running, { ids: running.made, ended })
      return []
    })
    return take(batch, staying, caches)
  }

  const join = async (rows: GenerateRow[], steps: (rows: RunningRow[]) => number): Promise<Batch[]> => {
    const started = rows.map((row) => startRow(row, chooseSeed))
    for (const running of started) numbers.set(running, count++)
    const runnable = started.filter((running) => {
      if (idsLeft(running) > 0) return true
      end(running, { ids: [], ended: false })
      return false
    })
    const groups = metadata.equalLengths ? byLength(runnable) : runnable.length > 0 ? [runnable] : []
    const batches: Batch[] = []
    for (const group of groups) {
      const fetchCaches = !isWhole || groups.length > 1 || more !== undefined
      const { batch, made } = await timed(group, true, () =>
        prefill(run, group, groups.length > 1 ? 1 : steps(group), fetchCaches),
      )
      batches.push(settle(batch, made))
    }
    return batches
  }

  /** Rows that join, but for those whose prompts fail. */
  const admit = async (rows: GenerateRow[]): Promise<Batch[]> => {
    const from = count
    try {
      return await join(rows, () => 1)
    } catch (error) {
      if (!onFailed) throw error
      const failed = [...numbers].filter(([, number]) => number >= from)
      for (const [running] of failed) end(running, { ids: [], ended: false })
      onFailed(
        failed.map(([, number]) => number),
        error,
      )
      return []
    }
  }

  const chunkOf = (rows: RunningRow[]) =>
    typeof chunk === 'function' ? chunk(rows.map(numberOf)) : (chunk ?? Number.POSITIVE_INFINITY)
  const stepsOf = (rows: RunningRow[]) => Math.min(chunkOf(rows), Math.max(1, ...rows.map(idsLeft)))

  let batch = merge(await join(first, more ? () => 1 : stepsOf), caches)
  for (;;) {
    const newcomers = (await more?.(batch.rows.length)) ?? []
    if (newcomers.length > 0) batch = merge([batch, ...(await admit(newcomers))], caches)
    if (batch.rows.length === 0) {
      if (newcomers.length === 0) return results
      continue
    }
    const { rows } = batch
    const advanced = await timed(rows, false, () => advance(run, batch, stepsOf(rows)))
    batch = settle(advanced.batch, advanced.made)
  }
}

interface Run {
  session: GenerateSession
  metadata: GenerateMetadata
  caches: InputMetadata[]
}

/** The first run of rows: their prompts and the first ids. */
async function prefill(
  { session, metadata, caches }: Run,
  rows: RunningRow[],
  steps: number,
  fetchCaches: boolean,
): Promise<{ batch: Batch; made: number[][] }> {
  const prompts = rows.map(({ row }) => row)
  const padded = padPrompts(prompts, metadata)
  const feeds = {
    input_ids: padded.inputIds,
    places: padded.places,
    features: padded.features,
    attention_mask: padded.mask,
    ...promptPositions(prompts, padded.length, metadata),
    last: int64(
      prompts.map(({ ids }) => ids.length - 1),
      [rows.length, 1],
    ),
    ...rowFeeds(rows, ({ row }) => row.ids, steps),
    ...emptyCaches(caches, rows.length),
  }
  const outputs = await session.run(feeds, fetchesOf(metadata, fetchCaches))
  const masks = prompts.map(({ ids }) => new Uint8Array(padded.length).fill(1, 0, ids.length))
  return ran(outputs, { rows, masks, caches: {} }, metadata)
}

/** One more run of a batch. */
async function advance(
  { session, metadata, caches }: Run,
  batch: Batch,
  steps: number,
): Promise<{ batch: Batch; made: number[][] }> {
  const { rows, masks } = batch
  const count = rows.length
  const positions = rows.map(({ position }) => position)
  const shown = masks.flatMap((mask) => [...mask, 1])
  const feeds = {
    input_ids: int64(
      rows.map(({ made }) => made.at(-1)!),
      [count, 1],
    ),
    places: int64([], [0, 2]),
    features: featuresOf([], metadata.width),
    attention_mask: int64(shown, [count, shown.length / count]),
    ...(metadata.positions === 1 && { position_ids: int64(positions, [count, 1]) }),
    ...(metadata.positions === 3 && {
      position_ids: int64([...positions, ...positions, ...positions], [3, count, 1]),
    }),
    last: int64(
      rows.map(() => 0),
      [count, 1],
    ),
    ...rowFeeds(rows, ({ row }) => row.ids, steps),
    ...Object.fromEntries(caches.map(({ name }) => [name, batch.caches[name]!])),
  }
  const outputs = await session.run(feeds, fetchesOf(metadata, true))
  return ran(outputs, { ...batch, masks: masks.map((mask) => append(mask, 1)) }, metadata)
}

const fetchesOf = ({ caches }: GenerateMetadata, fetchCaches: boolean) => [
  'ids',
  ...(fetchCaches ? caches.map(({ output }) => output) : []),
]

/** What a run made: the last id of a row is not in the caches yet. */
function ran(
  outputs: Record<string, Tensor | undefined>,
  { rows, masks }: Batch,
  metadata: GenerateMetadata,
): { batch: Batch; made: number[][] } {
  const made = rowsOf(outputs.ids!)
  const steps = made[0]?.length ?? 0
  const slots = masks.map((mask) => append(mask, steps - 1))
  return {
    made,
    batch: {
      rows,
      masks: metadata.contiguous ? slots.map(packed) : slots,
      caches: Object.fromEntries(
        metadata.caches.flatMap(({ input, output }) => {
          const tensor = outputs[output]
          return tensor ? [[input, tensor]] : []
        }),
      ),
    },
  }
}

function append(mask: Uint8Array, ones: number): Uint8Array {
  const longer = new Uint8Array(mask.length + ones).fill(1)
  longer.set(mask)
  return longer
}

/** The same number of used slots, from 0 on. */
const packed = (mask: Uint8Array) =>
  new Uint8Array(mask.length).fill(
    1,
    0,
    mask.reduce((sum, used) => sum + used, 0),
  )

function rowsOf(tensor: Tensor): number[][] {
  const [rows, length] = tensor.dims as [number, number]
  const ids = Array.from(tensor.data as BigInt64Array, Number)
  return Array.from({ length: rows }, (_, row) => ids.slice(row * length, (row + 1) * length))
}

/** The ids up to the first end id, and whether there is one. */
function upToEnd(ids: number[], endIds: number[]): RowResult {
  const end = ids.findIndex((id) => endIds.includes(id))
  return end === -1 ? { ids, ended: false } : { ids: ids.slice(0, end + 1), ended: true }
}

interface Most extends Pick<GeneratorOptions, 'metadata' | 'forcedEndId'> {
  most: number
}

/** The ids up to the first end id, or the most that may be made, of which the last may be forced. */
function upToMost(made: number[], { most, metadata: { endIds }, forcedEndId }: Most): RowResult {
  const { ids, ended } = upToEnd(made.slice(0, most), endIds)
  if (!ended && forcedEndId !== undefined && ids.length > 0 && ids.length === most)
    ids[ids.length - 1] = forcedEndId
  return { ids, ended }
}

function promptPositions(
  rows: GenerateRow[],
  length: number,
  { positions }: GenerateMetadata,
): Record<string, Tensor> {
  if (positions === 0) return {}
  const padded = (line: number[]) => [...line, ...new Array<number>(length - line.length).fill(0)]
  const counted = ({ ids }: GenerateRow) => ids.map((_, at) => at)
  if (positions === 1)
    return {
      position_ids: int64(
        rows.flatMap((row) => padded(row.positions?.[0] ?? counted(row))),
        [rows.length, length],
      ),
    }
  const lines = [0, 1, 2].flatMap((axis) =>
    rows.flatMap((row) => padded(row.positions?.[axis] ?? counted(row))),
  )
  return { position_ids: int64(lines, [3, rows.length, length]) }
}

function cacheInputs({ inputMetadata }: GenerateSession, { caches }: GenerateMetadata): InputMetadata[] {
  return caches.map(({ input }) => inputMetadata.find(({ name }) => name === input)!)
}

/** The rows of a batch that stay. */
function take(batch: Batch, staying: number[], inputs: InputMetadata[]): Batch {
  if (staying.length === batch.rows.length) return batch
  const kept = (name: string) => {
    const tensor = batch.caches[name]
    return tensor && staying.length > 0 ? [[name, takeRows(tensor, staying)] as const] : []
  }
  return {
    rows: staying.map((at) => batch.rows[at]!),
    masks: staying.map((at) => batch.masks[at]!),
    caches: Object.fromEntries(inputs.flatMap(({ name }) => kept(name))),
  }
}

/** Batches as one: gaps of their growing caches are closed. */
function merge(batches: Batch[], inputs: InputMetadata[]): Batch {
  const running = batches.filter(({ rows }) => rows.length > 0)
  if (running.length < 2) return running[0] ?? { rows: [], caches: {}, masks: [] }
  const masks = running.flatMap((batch) => batch.masks)
  const used = masks.map((mask) => mask.reduce((sum, each) => sum + each, 0))
  const slots = Math.max(...used)
  const joined = (input: InputMetadata) => {
    const tensors = running.map(({ caches }) => caches[input.name]!)
    return grows(input) ? joinSlots(tensors, masks, slots) : concatRows(tensors)
  }
  return {
    rows: running.flatMap(({ rows }) => rows),
    masks: used.map((count) => new Uint8Array(slots).fill(1, 0, count)),
    caches: Object.fromEntries(inputs.map((input) => [input.name, joined(input)])),
  }
}

function byLength(rows: RunningRow[]): RunningRow[][] {
  return [...Map.groupBy(rows, ({ row }) => row.ids.length).values()]
}

/** Encoder-decoders: one run for all ids of rows that begin with equally many. */
async function generateWhole(
  options: GeneratorOptions,
  rows: GenerateRow[],
  { onTokens }: GenerateOptions,
): Promise<RowResult[]> {
  const { metadata, startIds = [], chooseSeed = randomSeed } = options
  const forced = metadata.form === 'encoder' ? startIds.slice(1) : []
  const started = rows.map((row, at) => {
    const first = metadata.form === 'encoder' ? [...startIds, ...(row.beginning ?? [])] : row.ids
    const { maxTokens, minTokens = 0 } = row.settings
    const left = { maxTokens: maxTokens - forced.length, minTokens: minTokens - forced.length }
    const running = startRow({ ...row, settings: { ...row.settings, ...left } }, chooseSeed)
    return { at, running, first: first.length > 0 ? first : startIds }
  })
  const results: RowResult[] = []
  for (const group of Map.groupBy(started, ({ first }) => first.length).values()) {
    const running = group.map((each) => each.running)
    const steps = Math.max(0, ...running.map(idsLeft))
    const made =
      steps > 0
        ? await wholeRun(
            options,
            running,
            group.map(({ first }) => first),
            steps,
          )
        : []
    for (const [i, { at, running: row }] of group.entries()) {
      results[at] = wholeResult(row, made[i] ?? [], forced, options)
      onTokens?.(at, results[at].ids)
    }
  }
  return results
}

function wholeResult(
  row: RunningRow,
  made: number[],
  forced: number[],
  { metadata, forcedEndId }: GeneratorOptions,
): RowResult {
  const { ids, ended } = upToMost(made, { most: Math.max(0, idsLeft(row)), metadata, forcedEndId })
  return { ids: [...forced, ...ids], ended }
}

async function wholeRun(
  { session, metadata }: Pick<Run, 'session' | 'metadata'>,
  rows: RunningRow[],
  first: number[][],
  steps: number,
): Promise<number[][]> {
  const prompts = rows.map(({ row }) => row)
  const padded = metadata.form === 'encoder' ? padPrompts(prompts, metadata) : undefined
  const firstOf = new Map(rows.map((row, at) => [row, first[at]!]))
  const feeds = {
    ...(padded && { input_ids: padded.inputIds, places: padded.places, attention_mask: padded.mask }),
    features: featuresOf(prompts, metadata.width),
    decoder_input_ids: int64(first.flat(), [rows.length, first[0]!.length]),
    ...rowFeeds(rows, (row) => firstOf.get(row)!, steps),
  }
  return rowsOf((await session.run(feeds, ['ids'])).ids!)
}
