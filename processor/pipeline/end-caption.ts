import type { CaptionEnd, FinishReason } from '../../edge/contract/caption.ts'
import type { CaptionTokenizer } from '../engine/tokenizer.ts'

export interface EndOptions extends Pick<CaptionEnd, 'stop'> {
  tokenizer: Pick<CaptionTokenizer, 'decode'>
  /** Ids of the start and the prompt, which lead the caption's. */
  promptLength: number
  endId: number
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
 * @param ids as generated: start, prompt, caption, end
 */
export function endCaption(
  ids: number[],
  { tokenizer, promptLength, endId, stop = [] }: EndOptions,
): EndedCaption {
  const text = tokenizer.decode(ids)
  const from = stop.length > 0 ? tokenizer.decode(ids.slice(0, promptLength)).length : 0
  const cut = firstOf(text, stop, from)
  if (cut === undefined) {
    const ended = ids.length > promptLength && ids.at(-1) === endId
    return { text, finishReason: ended ? 'stop' : 'length', tokens: ids.length - promptLength }
  }
  // The caption was complete with the id that completed the text.
  let last = promptLength + 1
  while (last < ids.length && firstOf(tokenizer.decode(ids.slice(0, last)), stop, from) === undefined) last++
  return { text: text.slice(0, cut), finishReason: 'stop', tokens: last - promptLength }
}

/** Where the first of these texts begins; undefined when there is none. */
function firstOf(text: string, stops: readonly string[], from: number): number | undefined {
  const found = stops.map((stop) => text.indexOf(stop, from)).filter((at) => at >= 0)
  return found.length === 0 ? undefined : Math.min(...found)
}
