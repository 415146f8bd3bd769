import type { ObjectStore } from '../../infra/store/store.ts'
import { listPages } from '../../infra/store/store.ts'
import { highestOrder, orderText, parseOrder } from '../contract/ids.ts'

export interface KeysBeforeOptions {
  /** Of keys `<prefix><id>.json`. */
  prefix: string
  /** Default: the end of all keys. */
  before?: string
  /** So many keys are enough, if there are more. */
  least: number
}

/**
 * Finds the last keys in front of a key, ascending. A store lists forwards only, so this searches for a place to begin
 * at: ids begin with their time (`newestFirst`), and each list halves the time in question, so that some lists do, 45 at
 * most. Other ids, and more than a list of one millisecond, cost a list of all keys.
 */
export async function keysBefore(
  store: Pick<ObjectStore, 'list'>,
  { prefix, before, least }: KeysBeforeOptions,
): Promise<string[]> {
  const isBefore = (key: string) => before === undefined || key < before
  const listFrom = async (startAfter?: string) => {
    const { objects, continuation } = await store.list(prefix, { startAfter })
    const keys = objects.map(({ key }) => key)
    const found = keys.filter(isBefore)
    return { found, complete: continuation === undefined || found.length < keys.length }
  }
  const orderOf = (key = '') => parseOrder(key.slice(prefix.length))
  const startOf = (order: number) => `${prefix}${kind}${orderText(order)}`

  const all = await listFrom()
  if (all.complete) return all.found
  const { kind, order: newest } = orderOf(all.found[0]) ?? { kind: '', order: 0 }
  let tooNew = newest
  let tooOld = orderOf(before)?.order ?? highestOrder
  while (tooOld - tooNew > 1) {
    const order = Math.floor((tooNew + tooOld) / 2)
    const { found, complete } = await listFrom(startOf(order))
    if (!complete) tooNew = order
    else if (found.length < least) tooOld = order
    else return found
  }
  const rest: string[] = []
  const startAfter = tooNew === newest ? undefined : startOf(tooNew)
  for await (const page of listPages(store, prefix, { startAfter })) {
    const keys = page.map(({ key }) => key)
    rest.push(...keys.filter(isBefore))
    if (!isBefore(keys.at(-1) ?? prefix)) break
  }
  return rest
}
