import { z } from '@hono/zod-openapi'
import { listPages, type ObjectStore } from '../../infra/store/store.ts'
import { fromText } from './read.ts'

/** One page of a list in OpenAI's shape. */
export interface CursorPage<T> {
  object: 'list'
  data: T[]
  first_id: string | null
  last_id: string | null
  has_more: boolean
}

/** Documents and validates a `CursorPage`. */
export const pageSchema = <Schema extends z.ZodType>(item: Schema) =>
  z.object({
    object: z.literal('list'),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  })

/** The query of every list. */
export const pageQuery = (maxLimit: number, defaultLimit: number) => ({
  after: z
    .string()
    .max(200)
    .regex(/^[\w-]+$/)
    .optional()
    .openapi({ description: 'The last id of the page before.' }),
  limit: fromText(z.int().min(1).max(maxLimit).default(defaultLimit)).openapi({
    description: `Default: ${defaultLimit}.`,
  }),
})

export interface PageOptions<T> {
  /** Of the keys `<prefix><id>.json`; ids are of `newestFirst`. */
  prefix: string
  /** The page starts behind this id, whether there is such a one or not. */
  after?: string
  /** Things on the page at most. */
  limit: number
  /** Default: `desc`, the newest first. */
  order?: 'asc' | 'desc'
  /** What is kept under an id; undefined leaves it out. */
  read(id: string): Promise<T | undefined>
}

/** Things that are read from the store at the same time. */
const maxReads = 50

/** One page of what the store keeps below a prefix. */
export async function readPage<T extends { id: string }>(
  store: ObjectStore,
  { prefix, after, limit, order = 'desc', read }: PageOptions<T>,
): Promise<CursorPage<T>> {
  const afterKey = after === undefined ? undefined : `${prefix}${after}.json`
  const chunkSize = Math.min(limit + 1, maxReads)
  const idOf = (key: string) => key.slice(prefix.length, -'.json'.length)
  const found: T[] = []
  for await (const keys of keyChunks[order](store, prefix, afterKey, chunkSize)) {
    const things = await Promise.all(keys.map((key) => read(idOf(key))))
    found.push(...things.filter((thing) => thing !== undefined))
    if (found.length > limit) break
  }
  const data = found.slice(0, limit)
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: found.length > limit,
  }
}

/** A prefix's keys in chunks, behind `after`. */
type KeyChunks = (
  store: ObjectStore,
  prefix: string,
  after: string | undefined,
  size: number,
) => AsyncGenerator<string[]>

const newestFirstKeys: KeyChunks = async function* (store, prefix, after, size) {
  for await (const page of listPages(store, prefix, { startAfter: after, limit: size }))
    yield page.map(({ key }) => key)
}

/** A store lists the newest first only, so all keys (not what they hold) are read to begin with the oldest. */
const oldestFirstKeys: KeyChunks = async function* (store, prefix, after, size) {
  const keys: string[] = []
  for await (const page of listPages(store, prefix)) keys.push(...page.map(({ key }) => key))
  const rest = keys.filter((key) => after === undefined || key < after).reverse()
  for (let start = 0; start < rest.length; start += size) yield rest.slice(start, start + size)
}

const keyChunks = { desc: newestFirstKeys, asc: oldestFirstKeys }
