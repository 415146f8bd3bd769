import { z } from '@hono/zod-openapi'
import { BaseError } from '../../infra/errors.ts'
import { DamagedObjectError, listPages, type ObjectStore } from '../../infra/store/store.ts'
import type { Log } from '../deps.ts'
import { keysBefore } from './keys-before.ts'
import { fromText } from './read.ts'
import { jsonResponse } from './responses.ts'

/** Page of a list in OpenAI's format. */
export type CursorPage<T> = z.output<ReturnType<typeof pageSchema<z.ZodType<T>>>>

const pageSchema = <Schema extends z.ZodType>(item: Schema) =>
  z.object({
    object: z.literal('list'),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  })

/** Describes a page with one item. */
export const pageResponse = <Schema extends z.ZodType<{ id: string }>>(
  description: string,
  schema: Schema,
  item: z.input<Schema> & { id: string },
) => {
  const page = { object: 'list' as const, data: [item], first_id: item.id, last_id: item.id, has_more: false }
  return jsonResponse(description, pageSchema(schema), page as z.input<ReturnType<typeof pageSchema<Schema>>>)
}

/** Query parameters of every list. */
export const pageQuery = (maxLimit: number, defaultLimit: number) => ({
  after: z
    .string()
    .max(200)
    .regex(/^[A-Za-z0-9_-]+$/)
    .optional()
    .openapi({ description: 'Last id of the previous page.' }),
  limit: fromText(z.int().min(1).max(maxLimit).default(defaultLimit)).openapi({
    description: `Default: ${defaultLimit}.`,
  }),
})

export interface PageOptions<T> {
  /** Of keys `<prefix><id>.json`, whose ids are made by `newestFirst`. */
  prefix: string
  /** The page starts after this id, which need not exist. */
  after?: string
  limit: number
  /** Default: `desc`, newest first. */
  order?: 'asc' | 'desc'
  /** Reads an item; undefined leaves it out. */
  read(id: string): Promise<T | undefined>
  log: Pick<Log, 'warn'>
}

/** Maximum concurrent reads from the store. */
const maxReads = 50

/** Reads one page of the objects below a prefix, without damaged ones. @throws StoreUnavailableError */
export async function readPage<T extends { id: string }>(
  store: ObjectStore,
  { prefix, after, limit, order = 'desc', read, log }: PageOptions<T>,
): Promise<CursorPage<T>> {
  const afterKey = after === undefined ? undefined : `${prefix}${after}.json`
  const chunkSize = Math.min(limit + 1, maxReads)
  const idOf = (key: string) => key.slice(prefix.length, -'.json'.length)
  const found: T[] = []
  for await (const keys of keyChunks[order](store, prefix, afterKey, chunkSize)) {
    const items = await Promise.all(keys.map((key) => readItem(idOf(key), { read, log })))
    found.push(...items.filter((item) => item !== undefined))
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

/** Undefined for a damaged item: whatever its record lacks, the others are listed. */
async function readItem<T extends { id: string }>(
  id: string,
  { read, log }: Pick<PageOptions<T>, 'read' | 'log'>,
): Promise<T | undefined> {
  try {
    const item = await read(id)
    if (item === undefined || item.id === id) return item
    throw new DamagedObjectError(`The record of "${id}" has another id.`)
  } catch (err) {
    if (err instanceof BaseError && err.retriable) throw err
    log.warn({ err, id }, 'a damaged record is left out of a list')
    return undefined
  }
}

/** Lists the keys below a prefix in chunks, after `after`. */
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

const oldestFirstKeys: KeyChunks = async function* (store, prefix, after, size) {
  for (let before = after; ; ) {
    const keys = (await keysBefore(store, { prefix, before, least: size })).reverse()
    if (keys.length === 0) return
    for (let start = 0; start < keys.length; start += size) yield keys.slice(start, start + size)
    before = keys.at(-1)
  }
}

const keyChunks = { desc: newestFirstKeys, asc: oldestFirstKeys }
