import type { CaptionEnd, FinishReason } from '../../edge/contract/caption.ts'

export interface EndOptions extends Pick<CaptionEnd, 'stop'> {
  decode(ids: number[]): string
  /** Ids of the caption's beginning, which were given and lead it. */
  begun: number
  /** Whether the model ended it. */
  ended: boolean
}

export interface EndedCaption {
  text: string
  finishReason: FinishReason
  /** Ids behind the prompt, up to the end. */
  tokens: number
}

/**
 * The text of a caption, up to the first of the texts that end it, which the prompt may hold. Without one it ends at its
 * end id, or else at its limit.
 * @param ids of the caption: its beginning, then those made, the end id included
 */
export function endCaption(ids: number[], { decode, begun, ended, stop = [] }: EndOptions): EndedCaption {
  const text = decode(ids)
  const from = stop.length > 0 ? decode(ids.slice(0, begun)).length : 0
  const cut = firstOf(text, stop, from)
  if (cut === undefined) return { text, finishReason: ended ? 'stop' : 'length', tokens: ids.length - begun }
  // The caption was complete with the id that completed the text.
  let last = begun + 1
  while (last < ids.length && firstOf(decode(ids.slice(0, last)), stop, from) === undefined) last++
  return { text: text.slice(0, cut), finishReason: 'stop', tokens: last - begun }
}

/** Where the first of these texts begins; undefined when there is none. */
function firstOf(text: string, stops: readonly string[], from: number): number | undefined {
  const found = stops.map((stop) => text.indexOf(stop, from)).filter((at) => at >= 0)
  return found.length === 0 ? undefined : Math.min(...found)
}
