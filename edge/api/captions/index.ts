import type { OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { getJson } from '../../../infra/store/store.ts'
import { type Caption, maxBodyBytes, maxJsonImageBytes } from '../../contract/caption.ts'
import { withIgnored } from '../../contract/chat.ts'
import { notFound } from '../../contract/errors.ts'
import { keys } from '../../contract/keys.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import type { Gate } from '../../guard/admission.ts'
import { jsonCopies, receiveBody } from '../../guard/body.ts'
import { callerGone } from '../../guard/errors.ts'
import { requestCaption } from '../../submit/once.ts'
import { answerFailed, documented } from '../responses.ts'
import { acceptMediaTypes, isJson, readCaptionRequest } from './request.ts'
import { captionIdPattern, createCaption, getCaption } from './routes.ts'

/**
 * `POST /v1/captions` and `GET /v1/captions/{id}`. Not typed by their documentation: a body can be an image or JSON,
 * and a failed caption has its own status.
 */
export function addCaptions(app: OpenAPIHono<EdgeEnv>, deps: EdgeDeps, gate: Gate): void {
  const body = receiveBody(deps, (contentType) =>
    isJson(contentType) ? { maxBytes: maxJsonImageBytes, copies: jsonCopies } : { maxBytes: maxBodyBytes },
  )
  app.post(documented(app, createCaption), gate.check, acceptMediaTypes, body, gate.hold, async (c) => {
    const receivedAt = deps.now()
    const ask = await readCaptionRequest(c, deps)
    const respondAsync = prefersAsync(c.req.header('prefer'))
    const caption = await requestCaption(c, deps, ask, { receivedAt, respondAsync })
    if (!caption) return callerGone()
    if (caption.status === 'queued' && respondAsync) c.header('Preference-Applied', 'respond-async')
    return answerCaption(c, caption)
  })

  app.get(documented(app, getCaption), async (c) =>
    answerCaption(c, await findCaption(deps.store, c.get('tenant').id, c.req.param('id'))),
  )
}

function answerCaption(c: Context<EdgeEnv>, caption: Caption): Response {
  switch (caption.status) {
    case 'completed':
      return c.json({ ...caption, turbine: withIgnored(caption.turbine, c.get('ignored')) }, 200)
    case 'failed':
      return answerFailed(c, caption)
    case 'queued':
      c.header('Location', `/v1/captions/${caption.id}`)
      c.header('Retry-After', '1')
      return c.json(caption, 202)
  }
}

async function findCaption(store: EdgeDeps['store'], tenant: string, id: string): Promise<Caption> {
  const caption = captionIdPattern.test(id) && (await getJson<Caption>(store, keys.caption(tenant, id)))
  if (caption) return caption
  throw notFound('caption', id, 'Use the URL in the Location header of a 202 response.')
}

/** Looks for `respond-async` in a `Prefer` header (RFC 7240). */
const prefersAsync = (header = '') =>
  header.split(',').some((preference) => preference.split(';')[0]!.trim().toLowerCase() === 'respond-async')
