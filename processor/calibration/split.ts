import { hash } from 'node:crypto'

/** The pictures of a calibration, in two parts. */
export interface Parts<T> {
  /** Pictures that levels are chosen by. */
  search: T[]
  /** Pictures that only confirm the chosen levels. */
  heldOut: T[]
}

/**
 * Splits distinct pictures by their content, whatever they are called and in whatever order they come.
 *
 * @param seed another seed gives another split
 */
export function splitPictures<T extends { digest: string }>(
  pictures: readonly T[],
  { seed, heldOutShare = 0.4 }: { seed: number; heldOutShare?: number },
): Parts<T> {
  const distinct = [...new Map(pictures.map((picture) => [picture.digest, picture])).values()]
  const shuffled = inRandomOrder(distinct, ({ digest }) => digest, seed)
  const heldOut = Math.round(heldOutShare * shuffled.length)
  return { heldOut: shuffled.slice(0, heldOut), search: shuffled.slice(heldOut) }
}

/** At most `count` of the items, chosen by hashes of their names; memory grows with `count` alone. */
export async function sample<T>(
  items: AsyncIterable<T>,
  { count, seed, nameOf }: { count: number; seed: number; nameOf(item: T): string },
): Promise<T[]> {
  let chosen: T[] = []
  for await (const item of items) {
    chosen.push(item)
    if (chosen.length >= 2 * count + 1000) chosen = inRandomOrder(chosen, nameOf, seed).slice(0, count)
  }
  return inRandomOrder(chosen, nameOf, seed).slice(0, count)
}

function inRandomOrder<T>(items: readonly T[], nameOf: (item: T) => string, seed: number): T[] {
  const keyed = items.map((item) => ({ item, key: hash('sha256', `${seed} ${nameOf(item)}`) }))
  return keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)).map(({ item }) => item)
}
