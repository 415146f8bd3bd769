import type { CaptionEnd, FinishReason } from '../../../edge/contract/caption.ts'
import { wholeSentences, withoutLoop, withoutOpening } from './caption-text.ts'
import { GrowingDecoder } from './growing-decoder.ts'
import { Repetition, SettledText } from './growing-text.ts'

/** What is done with captions, so that many can be used unseen. */
export interface CaptionRules {
  /** Ends a caption that repeats itself. */
  endLoops?: boolean
  /** Texts that captions commonly begin with, which are left out. */
  openings?: readonly string[]
  /** Ends a caption that a maximum of tokens cut at its last whole sentence. */
  wholeSentences?: boolean
}

export interface EndOptions extends Pick<CaptionEnd, 'stop'>, CaptionRules {
  decode(ids: number[]): string
  /** Ids of the caption's beginning, which were given and lead it. */
  begun: number
  /** Whether the model ended it. */
  ended: boolean
}

export interface EndedCaption {
  text: string
  finishReason: FinishReason
  /** Whether it repeated itself, and was ended there. */
  repeated?: true
  /** Ids behind the prompt, up to the end. */
  tokens: number
}

/**
 * A caption's text by its rules: up to the first of the texts that end it, which the prompt may hold, or to where it begins to
 * repeat itself. Without either it ends at its end id, or else at its limit.
 * @param ids of the caption: its beginning, then those made, the end id included
 */
export function endCaption(ids: number[], options: EndOptions): EndedCaption {
  const { endLoops = false, openings = [], wholeSentences: whole = false } = options
  const ended = endOf(ids, options)
  const looped = endLoops ? withoutLoop(ended.text) : undefined
  const cut = looped ?? (whole && ended.finishReason === 'length' ? wholeSentences(ended.text) : ended.text)
  const text = withoutOpening(cut, openings)
  return looped === undefined ? { ...ended, text } : { ...ended, text, finishReason: 'stop', repeated: true }
}

/** What is known of a caption that still grows. */
export interface GrownCaption {
  /** Whether its rules end it here. */
  isOver: boolean
  /** What can be shown of it; made when it is read. */
  readonly text: string
}

/**
 * Follows a caption that grows: the result takes its ids so far, the beginning included, as often as there are new ones, and
 * looks at those alone. Other ids than before are another caption.
 */
export function growingCaption({
  decode,
  begun,
  ...rules
}: Omit<EndOptions, 'ended'>): (ids: number[]) => GrownCaption {
  const { stop = [], endLoops = false } = rules
  const decoder = new GrowingDecoder(decode)
  const stops = new StopSearch(stop)
  const repetition = new Repetition()
  const settled = new SettledText(rules, repetition)
  let from: number | undefined
  return (ids) => {
    from ??= lengthOfBeginning(ids, { decode, begun, stop })
    const { text: whole, stable } = decoder.update(ids)
    const cut = stops.find(whole, { from, stable })
    const text = whole.slice(0, cut)
    const certain = Math.min(stable, text.length)
    const isOver = cut !== undefined || (endLoops && repetition.loopEnd(text, certain) !== undefined)
    return {
      isOver,
      get text() {
        return settled.of(text, certain)
      },
    }
  }
}

function endOf(ids: number[], { decode, begun, ended, stop = [] }: EndOptions): EndedCaption {
  const text = decode(ids)
  const from = lengthOfBeginning(ids, { decode, begun, stop })
  const cut = new StopSearch(stop).find(text, { from, stable: 0 })
  if (cut === undefined) return { text, finishReason: ended ? 'stop' : 'length', tokens: ids.length - begun }
  // The caption was complete with the id that completed the text.
  let [low, high] = [begun + 1, ids.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const isThere = new StopSearch(stop).find(decode(ids.slice(0, middle)), { from, stable: 0 }) !== undefined
    if (isThere) high = middle
    else low = middle + 1
  }
  return { text: text.slice(0, cut), finishReason: 'stop', tokens: Math.min(low, ids.length) - begun }
}

/** Characters of a caption's beginning, in which no text ends it. */
const lengthOfBeginning = (
  ids: number[],
  { decode, begun, stop }: Required<Pick<EndOptions, 'decode' | 'begun' | 'stop'>>,
) => (stop.length > 0 && begun > 0 ? decode(ids.slice(0, begun)).length : 0)

/** Finds texts that end a caption; where it looked before it does so once. */
class StopSearch {
  readonly #stops: readonly string[]
  #seen = 0

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** Where the first of the texts begins, from `from` on; undefined when there is none. */
  find(text: string, { from, stable }: { from: number; stable: number }): number | undefined {
    const seen = Math.min(this.#seen, stable)
    const found = this.#stops
      .map((stop) => text.indexOf(stop, Math.max(from, seen - stop.length + 1)))
      .filter((at) => at >= 0)
    this.#seen = found.length > 0 ? 0 : text.length
    return found.length === 0 ? undefined : Math.min(...found)
  }
}
