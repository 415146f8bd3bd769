import { sleep } from '../../infra/timing.ts'
import type { PartDelivery, TextPart } from '../contract/reply.ts'

export interface PartSenderOptions {
  /** Announces parts, one call after the other. */
  post(texts: TextPart[]): Promise<PartDelivery>
  /** Called when the caller has left. */
  onLeft?(): void
  /** Called for a part that could not be announced, of many in a row for the first. */
  onFailure?(error: unknown): void
  /** Least time between two parts, ms; default: none. */
  everyMs?: number
  /** After so long without a part an empty one asks whether the caller is still there, ms; default: never. */
  askEveryMs?: number
  pause?(ms: number, signal: AbortSignal): Promise<unknown>
}

/** Sends what is new of captions that grow to whoever waits for them. */
export interface PartSender {
  /** Tells the text of a caption so far, of which earlier text is the begin. */
  show(index: number, text: string): void
  /** No more is sent. */
  close(): void
}

/** Failures in a row after which no more is tried. */
const mostFailures = 5
/** One for all: making an error takes longer than all else here. */
const closed = new Error('closed')

/**
 * One part at a time: what comes meanwhile goes with the next one. A part says where its text begins, and is sent again with
 * the next one when it got lost, so that nothing is missing and nothing comes twice.
 */
export function createPartSender({
  post,
  onLeft,
  onFailure,
  everyMs = 0,
  askEveryMs,
  pause = sleep,
}: PartSenderOptions): PartSender {
  const texts: string[] = []
  const sent: number[] = []
  const closing = new AbortController()
  let isSending = false
  let failures = 0

  const news = (): TextPart[] =>
    texts.flatMap((text, index) => {
      const from = sent[index] ?? 0
      return text.length > from ? [{ index, from, text: text.slice(from) }] : []
    })

  const send = async (parts: TextPart[]) => {
    try {
      const delivery = await post(parts)
      failures = 0
      if (delivery !== 'taken') closing.abort()
      if (delivery === 'left') onLeft?.()
      for (const { index, from, text } of parts) sent[index] = from + text.length
    } catch (error) {
      if (++failures === 1) onFailure?.(error)
      if (failures >= mostFailures) closing.abort()
    }
  }

  const run = async (first: TextPart[]) => {
    isSending = true
    for (let parts = first; ; parts = news()) {
      await send(parts)
      if (everyMs > 0) await pause(everyMs, closing.signal)
      if (closing.signal.aborted || news().length === 0) break
    }
    isSending = false
  }

  const askAgain = async (ms: number) => {
    for (;;) {
      await pause(ms, closing.signal)
      if (closing.signal.aborted) return
      if (!isSending) await run([])
    }
  }
  if (askEveryMs !== undefined) void askAgain(askEveryMs)

  return {
    show(index, text) {
      // A run that failed begins again; what was shown of it stays.
      if (closing.signal.aborted || !text.startsWith(texts[index] ?? '')) return
      texts[index] = text
      if (!isSending && news().length > 0) void run(news())
    },
    close: () => closing.abort(closed),
  }
}
