import type { OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { type Caption, maxJsonImageBytes } from '../../contract/caption.ts'
import {
  type ChatAsk,
  type ChatCompletion,
  chatChunks,
  chatCompletion,
  chatStatus,
  readChat,
} from '../../contract/chat.ts'
import { retryLater, TurbineError } from '../../contract/errors.ts'
import { jsonLine } from '../../contract/lines.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import type { Gate } from '../../guard/admission.ts'
import { jsonCopies, receiveBody } from '../../guard/body.ts'
import { callerGone, respondError } from '../../guard/errors.ts'
import { requestCaption } from '../../submit/once.ts'
import { askAbout } from '../captions/request.ts'
import { readJson } from '../read.ts'
import { answerFailed, documented } from '../responses.ts'
import { chatExample, createChatCompletion } from './routes.ts'

/** `POST /v1/chat/completions`, in OpenAI's format. */
export function addChat(app: OpenAPIHono<EdgeEnv>, deps: EdgeDeps, gate: Gate): void {
  const body = receiveBody(deps, { maxBytes: maxJsonImageBytes, copies: jsonCopies })
  app.post(documented(app, createChatCompletion), gate.check, body, gate.hold, async (c) => {
    const receivedAt = deps.now()
    const { chat, ask } = await readAsk(c, deps)
    const caption = await requestCaption(c, deps, ask, { receivedAt }).catch(asChatError)
    return caption ? answerChat(c, chat, caption) : callerGone()
  })
}

/** @throws the error, with the status that it has in a chat */
function asChatError(error: unknown): never {
  if (!(error instanceof TurbineError)) throw error
  const { message, code, status, retryAfterSeconds, retriable } = error
  const param = error.param ?? undefined
  throw new TurbineError(message, {
    ...{ code, param, retryAfterSeconds, retriable, cause: error.cause },
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

/** A stream begins only when the caption is ready, so that every failure has its own status. */
function answerChat(
  c: Context<EdgeEnv>,
  { stream, includeUsage, model }: Pick<ChatAsk, 'stream' | 'includeUsage' | 'model'>,
  caption: Caption,
): Response {
  switch (caption.status) {
    case 'completed': {
      const completion = chatCompletion(caption, { model, ignored: c.get('ignored') })
      return stream ? answerStream(c, completion, includeUsage) : c.json(completion, 200)
    }
    case 'failed':
      return answerFailed(c, {
        ...caption,
        http_status: chatStatus(caption.http_status, caption.error.code),
      })
    case 'queued':
      c.header('Location', `/v1/captions/${caption.id}`)
      return respondError(c, captionPending(caption.id))
  }
}

/** Server-sent events (WHATWG HTML, 9.2) as OpenAI ends them. */
function answerStream(c: Context<EdgeEnv>, completion: ChatCompletion, includeUsage: boolean): Response {
  const events = [...chatChunks(completion, includeUsage).map(jsonLine), '[DONE]']
  c.header('Content-Type', 'text/event-stream; charset=utf-8')
  return c.body(events.map((event) => `data: ${event}\n\n`).join(''), 200)
}

/** Chat clients do not know 202; they retry a 503 by themselves. */
const captionPending = (id: string) =>
  retryLater(
    'caption_pending',
    `The caption was not ready in time. It is still being processed: GET /v1/captions/${id}, or retry the request with the same Idempotency-Key.`,
  )
