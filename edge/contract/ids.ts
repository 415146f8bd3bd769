/** 9 digits of base 36 count milliseconds far beyond every date there is. */
const digits = 9
const last = 36 ** digits - 1

/**
 * An id of letters, digits, `-` and `_` that sorts before every one made earlier, so that a store, which lists keys
 * in ascending order, lists the newest first. `now` is unix ms; `unique` is something that was never there before.
 *
 * @example `batch_${newestFirst(deps.now(), deps.newId())}`
 */
export const newestFirst = (now: number, unique: string) =>
  `${orderText(last - now)}${unique.replaceAll('-', '').slice(0, 16)}`

/** The beginning of the ids of one millisecond; the higher the order, the older. */
export const orderText = (order: number) => order.toString(36).padStart(digits, '0')

/** Highest order of an id, that of the year 1970. */
export const highestOrder = last

/** Splits an id, e.g. `file-2n9c4e2x9a1b2c`, into `file-` and its order; undefined for text that is no such id. */
export function parseOrder(id: string): { kind: string; order: number } | undefined {
  const [, kind, text] = /^([a-z]+[-_])([0-9a-z]{9})/.exec(id) ?? []
  return kind === undefined ? undefined : { kind, order: Number.parseInt(text!, 36) }
}
