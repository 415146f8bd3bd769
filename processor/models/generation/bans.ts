/** Ids that a model folder never lets come. */
export interface Bans {
  /** Never (`suppress_tokens`, and `bad_words_ids` of one id). */
  always: number[]
  /** As the first id that is made (`begin_suppress_tokens`). */
  first: number[]
  /** The last id of each behind the others, two ids at least (`bad_words_ids`). */
  words: number[][]
}

/** What may not come behind ids, of which `made` were made; the others were given. */
export function bannedIds(
  { always, first, words }: Bans,
  history: readonly number[],
  made: number,
): number[] {
  const ended = words.filter((word) => {
    const from = history.length - (word.length - 1)
    return from >= 0 && word.slice(0, -1).every((id, at) => history[from + at] === id)
  })
  return [...always, ...(made === 0 ? first : []), ...ended.map((word) => word.at(-1)!)]
}

/** Every id of bans. */
export const idsOfBans = ({ always, first, words }: Bans): number[] => [...always, ...first, ...words.flat()]
