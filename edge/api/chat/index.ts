import type { OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { type Caption, type CompletedCaption, maxJsonImageBytes } from '../../contract/caption.ts'
import {
  type ChatAsk,
  type ChatCompletion,
  chatCompletion,
  chatParam,
  chatStatus,
  readChat,
} from '../../contract/chat.ts'
import { retryLater, TurbineError } from '../../contract/errors.ts'
import { jsonLine } from '../../contract/lines.ts'
import type { CaptionPart } from '../../contract/reply.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import type { Gate } from '../../guard/admission.ts'
import { jsonCopies, receiveBody } from '../../guard/body.ts'
import { callerGone, errorOf, respondError } from '../../guard/errors.ts'
import { type CaptionAsk, requestCaption } from '../../submit/once.ts'
import { askAbout } from '../captions/request.ts'
import { readJson } from '../read.ts'
import { answerFailed, documented } from '../responses.ts'
import { ChatStream } from './chat-stream.ts'
import { eventStream } from './event-stream.ts'
import { chatExample, createChatCompletion } from './routes.ts'

/** `POST /v1/chat/completions`, in OpenAI's format. */
export function addChat(app: OpenAPIHono<EdgeEnv>, deps: EdgeDeps, gate: Gate): void {
  const body = receiveBody(deps, { maxBytes: maxJsonImageBytes, copies: jsonCopies })
  app.post(documented(app, createChatCompletion), gate.check, body, gate.hold, async (c) => {
    const receivedAt = deps.now()
    const { chat, ask } = await readAsk(c, deps)
    if (chat.stream) return streamChat(c, deps, { chat, ask, receivedAt })
    const caption = await requestCaption(c, deps, ask, { receivedAt }).catch(asChatError)
    if (!caption) return callerGone()
    return caption.status === 'completed'
      ? c.json(completionOf(c, caption, chat.model), 200)
      : answerUnmade(c, caption)
  })
}

interface StreamedAsk {
  chat: Pick<ChatAsk, 'includeUsage' | 'model'>
  ask: CaptionAsk
  /** Unix ms. */
  receivedAt: number
}

/**
 * Streams captions as they grow. The response begins with their first text, or else when they are ready, so that what fails
 * before has its own status; what fails later is an event with the error, and the last one.
 */
async function streamChat(
  c: Context<EdgeEnv>,
  deps: EdgeDeps,
  { chat: { model, includeUsage }, ask, receivedAt }: StreamedAsk,
): Promise<Response> {
  const leaving = new AbortController()
  const events = eventStream(() => leaving.abort())
  const stream = new ChatStream({ model: model ?? ask.model, includeUsage }, events.write)
  const begun = Promise.withResolvers<undefined>()
  const onPart = (part: CaptionPart) => {
    stream.add(part)
    if (stream.hasBegun) begun.resolve(undefined)
  }
  const signal = AbortSignal.any([c.req.raw.signal, leaving.signal])
  const requested = requestCaption(c, deps, ask, { receivedAt, onPart, signal }).catch(asChatError)
  const first = await Promise.race([begun.promise, requested.then((caption) => ({ caption }))])
  if (first && first.caption?.status !== 'completed')
    return first.caption ? answerUnmade(c, first.caption) : callerGone()
  const finish = async () => {
    try {
      const caption = await requested
      if (caption) endStream(stream, caption, (made) => completionOf(c, made, model))
    } catch (cause) {
      events.write(jsonLine(errorOf(c, deps.log, cause).toBody()))
    } finally {
      events.close()
    }
  }
  c.set('writing', finish())
  c.header('Content-Type', 'text/event-stream; charset=utf-8')
  // Proxies such as nginx would hold events back.
  c.header('X-Accel-Buffering', 'no')
  return c.body(events.body, 200)
}

/** @throws TurbineError of a caption that was not made, or not as it began */
function endStream(
  stream: ChatStream,
  caption: Caption,
  completionOf: (caption: CompletedCaption) => ChatCompletion,
): void {
  if (caption.status === 'queued') throw captionPending(caption.id)
  if (caption.status === 'failed') throw failureOf(caption)
  if (!stream.end(completionOf(caption))) throw captionChanged(caption.id)
}

const completionOf = (c: Context<EdgeEnv>, caption: CompletedCaption, model: string | undefined) =>
  chatCompletion(caption, { model, ignored: c.get('ignored') })

/** @throws the error, with the status that it has in a chat */
function asChatError(error: unknown): never {
  if (!(error instanceof TurbineError)) throw error
  const { message, code, status, retryAfterSeconds, retriable } = error
  throw new TurbineError(message, {
    ...{ code, param: chatParam(error.param), retryAfterSeconds, retriable, cause: error.cause },
    status: chatStatus(status, code),
  })
}

/** The images' addresses are in `ask` alone, which forgets them: they can hold the whole images. */
async function readAsk(c: Context<EdgeEnv>, deps: EdgeDeps) {
  const chat = readChat(await readJson(c, chatExample), deps.reading.ignored)
  const { stream, includeUsage, ...asked } = chat
  const ask = await askAbout(c, deps, asked)
  return { chat: { model: chat.model, stream, includeUsage }, ask }
}

function answerUnmade(c: Context<EdgeEnv>, caption: Exclude<Caption, CompletedCaption>): Response {
  if (caption.status === 'failed') {
    const error = { ...caption.error, param: chatParam(caption.error.param) ?? null }
    return answerFailed(c, { ...caption, error, http_status: statusOf(caption) })
  }
  c.header('Location', `/v1/captions/${caption.id}`)
  return respondError(c, captionPending(caption.id))
}

type FailedCaption = Extract<Caption, { status: 'failed' }>

const statusOf = ({ http_status, error }: FailedCaption) => chatStatus(http_status, error.code)

const failureOf = (caption: FailedCaption) =>
  new TurbineError(caption.error.message, {
    status: statusOf(caption) as TurbineError['status'],
    code: caption.error.code,
    param: chatParam(caption.error.param),
  })

/** Chat clients do not know 202; they retry a 503 by themselves. */
const captionPending = (id: string) =>
  retryLater(
    'caption_pending',
    `The caption was not ready in time. It is still being processed: GET /v1/captions/${id}, or retry the request with the same Idempotency-Key.`,
  )

/** Its job was run twice, e.g. since a processor was lost. */
const captionChanged = (id: string) =>
  new TurbineError(
    `The caption is another than it began with: GET /v1/captions/${id}, or retry the request.`,
    {
      status: 503,
      code: 'caption_changed',
    },
  )
