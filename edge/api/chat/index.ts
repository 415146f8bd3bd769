import type { OpenAPIHono } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { type Caption, maxBodyBytes } from '../../contract/caption.ts'
import {
  type ChatAsk,
  type ChatCompletion,
  chatChunks,
  chatCompletion,
  readChat,
} from '../../contract/chat.ts'
import { TurbineError } from '../../contract/errors.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import { limitBody } from '../../guard/body-limit.ts'
import { callerGone, respondError } from '../../guard/errors.ts'
import { type CaptionAsk, requestCaption } from '../../submit/once.ts'
import { findModel } from '../models.ts'
import { imageReader, readJson } from '../read.ts'
import { answerFailed } from '../responses.ts'
import { chatExample, createChatCompletion } from './routes.ts'

/** `POST /v1/chat/completions`, in OpenAI's shapes. */
export function addChat(app: OpenAPIHono<EdgeEnv>, deps: EdgeDeps, gate: MiddlewareHandler<EdgeEnv>): void {
  app.openAPIRegistry.registerPath(createChatCompletion)
  app.post('/v1/chat/completions', gate, limitBody(maxBodyBytes), async (c) => {
    const receivedAt = deps.now()
    const chat = readChat(await readJson(c, chatExample))
    const caption = await requestCaption(c, deps, await askOf(c, deps, chat), { receivedAt })
    return caption ? answerChat(c, chat, caption) : callerGone()
  })
}

async function askOf(c: Context<EdgeEnv>, deps: EdgeDeps, chat: ChatAsk): Promise<CaptionAsk> {
  return {
    image: imageReader(c, deps, chat.imageUrl),
    model: findModel(await deps.models(), chat.model).id,
    prompt: chat.prompt,
    maxPrune: chat.maxPrune ?? 1,
    deadlineMs: chat.deadlineMs,
  }
}

/** A stream begins only when the caption is there, so that whatever goes wrong has its own status. */
function answerChat(c: Context<EdgeEnv>, { stream, includeUsage }: ChatAsk, caption: Caption): Response {
  switch (caption.status) {
    case 'completed': {
      const completion = chatCompletion(caption)
      return stream ? answerStream(c, completion, includeUsage) : c.json(completion, 200)
    }
    case 'failed':
      return answerFailed(c, caption)
    case 'queued':
      c.header('Location', `/v1/captions/${caption.id}`)
      return respondError(c, captionPending(caption.id))
  }
}

/** Server-sent events (WHATWG HTML, 9.2) as OpenAI ends them. */
function answerStream(c: Context<EdgeEnv>, completion: ChatCompletion, includeUsage: boolean): Response {
  const events = [...chatChunks(completion, includeUsage).map((chunk) => JSON.stringify(chunk)), '[DONE]']
  c.header('Content-Type', 'text/event-stream; charset=utf-8')
  c.header('Cache-Control', 'no-cache')
  return c.body(events.map((event) => `data: ${event}\n\n`).join(''), 200)
}

/** Chat clients know no 202; they repeat a 503 by themselves. */
const captionPending = (id: string) =>
  new TurbineError(
    `The caption was not there in time. It goes on: GET /v1/captions/${id}, or send the request again with the same Idempotency-Key to be given it.`,
    { status: 503, code: 'caption_pending', retryAfterSeconds: 1 },
  )
