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
  `${(last - now).toString(36).padStart(digits, '0')}${unique.replaceAll('-', '').slice(0, 16)}`
