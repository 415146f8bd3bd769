import type { CaptionEnd, FinishReason } from '../../edge/contract/caption.ts'
import { loopEnd, settledText, wholeSentences, withoutLoop, withoutOpening } from './caption-text.ts'

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

/**
 * What can be shown of a caption that still grows, and whether its rules end it here.
 * @param ids so far, the caption's beginning included
 */
export function growingCaption(
  ids: number[],
  options: Omit<EndOptions, 'ended'>,
): { text: string; isOver: boolean } {
  const { text, finishReason } = endOf(ids, { ...options, ended: false })
  const isOver = finishReason === 'stop' || (options.endLoops === true && loopEnd(text) !== undefined)
  return {
    isOver,
    // For who reads along.
    get text() {
      return settledText(text, options)
    },
  }
}

function endOf(ids: number[], { decode, begun, ended, stop = [] }: EndOptions): EndedCaption {
  const text = decode(ids)
  const from = stop.length > 0 && begun > 0 ? decode(ids.slice(0, begun)).length : 0
  const cut = firstOf(text, stop, from)
  if (cut === undefined) return { text, finishReason: ended ? 'stop' : 'length', tokens: ids.length - begun }
  // The caption was complete with the id that completed the text.
  let last = begun + 1
  while (last < ids.length && firstOf(decode(ids.slice(0, last)), stop, from) === undefined) last++
  return { text: text.slice(0, cut), finishReason: 'stop', tokens: Math.min(last, ids.length) - begun }
}

/** Where the first of these texts begins; undefined when there is none. */
function firstOf(text: string, stops: readonly string[], from: number): number | undefined {
  const found = stops.map((stop) => text.indexOf(stop, from)).filter((at) => at >= 0)
  return found.length === 0 ? undefined : Math.min(...found)
}
