import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Caption } from '../../edge/contract/caption.ts'
import type { Random } from '../../infra/starter-model/random.ts'
import { type Answer, type Call, type Caller, UnansweredError } from './caller.ts'
import type { ChaosPicture } from './scenery.ts'

const forms = ['raw', 'json', 'chat', 'async'] as const
const sources = ['data', 'http', 's3'] as const

/** A request for a caption, from its first attempt to its result. */
export interface Ask {
  form: (typeof forms)[number]
  tenant: string
  expected: string
  /** Ms of `performance.now()`. */
  fromMs: number
  /** Undefined when there was never a result. */
  toMs?: number
  /** Whether an edge has said 200 or 202. */
  accepted: boolean
  caption?: string
  /** The status and the code of an error that ended it. */
  refused?: string
  /** What a repeat with the same key got instead of the same result. */
  doubled?: string
}

/** Share of the requests with an idempotency key, and of those that are sent again once answered. */
const keyedShare = 0.5
const repeatedShare = 0.3
const pollEveryMs = 250

/** Asks for one caption in one of the ways there are, and waits for its result however long it takes. */
export async function askCaption(
  caller: Caller,
  { random, picture, tenant }: { random: Random; picture: ChaosPicture; tenant: string },
): Promise<Ask> {
  const form = pick(random, forms)
  const key = random() < keyedShare ? randomUUID() : undefined
  const repeated = key !== undefined && random() < repeatedShare
  const call = callOf(form, picture[pick(random, sources)], picture.jpeg, key)
  const ask: Ask = {
    form,
    tenant,
    expected: picture.expected ?? picture.truth,
    fromMs: performance.now(),
    accepted: false,
  }
  try {
    const answer = await caller.call(call)
    const result = await settle(caller, ask, answer)
    ask.toMs = performance.now()
    if (repeated && ask.caption !== undefined) {
      const again = await caller.call(call)
      // Queue time and time of creation are those of the first run.
      if (again.status >= 400 || idOf(again) !== idOf(answer)) ask.doubled = `${again.status} ${again.text}`
      else if (again.status === 200 && again.text !== result)
        ask.doubled = `${again.text} instead of ${result}`
    }
  } catch (error) {
    if (!(error instanceof UnansweredError)) throw error
  }
  return ask
}

/** Takes the result from an answer, or fetches it later; its text. */
async function settle(caller: Caller, ask: Ask, answer: Answer): Promise<string> {
  let { status, text } = answer
  if (status === 200 || status === 202) ask.accepted = true
  while (status === 202) {
    await delay(pollEveryMs)
    ;({ status, text } = await caller.call({ path: `/v1/captions/${idOf(answer)}` }))
  }
  if (status === 200) ask.caption = captionOf(text)
  else ask.refused = `${status} ${text.slice(0, 200)}`
  return text
}

function callOf(
  form: Ask['form'],
  url: string,
  jpeg: Uint8Array<ArrayBuffer>,
  key: string | undefined,
): Call {
  const keyed: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key }
  const turbine = { max_prune: 0 }
  const json = (path: string, request: unknown): Call => ({
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json', ...keyed },
    body: () => JSON.stringify(request),
  })
  const bytes = (headers: Record<string, string>): Call => ({
    method: 'POST',
    path: '/v1/captions?max_prune=0',
    headers: { 'content-type': 'image/jpeg', ...keyed, ...headers },
    body: () => jpeg,
  })
  switch (form) {
    case 'raw':
      return bytes({})
    case 'async':
      return bytes({ prefer: 'respond-async' })
    case 'json':
      return json('/v1/captions', { image_url: url, turbine })
    case 'chat': {
      const content = [{ type: 'image_url', image_url: { url } }]
      return json('/v1/chat/completions', { messages: [{ role: 'user', content }], turbine })
    }
  }
}

const idOf = ({ text }: Answer) => (JSON.parse(text) as { id: string }).id

function captionOf(text: string): string {
  const body = JSON.parse(text) as Caption | { choices: [{ message: { content: string } }] }
  if ('choices' in body) return body.choices[0].message.content
  return body.status === 'completed' ? body.caption : ''
}

const pick = <T>(random: Random, choices: readonly T[]): T => choices[Math.floor(random() * choices.length)]!
