import type { OpenAPIHono } from '@hono/zod-openapi'
import { TurbineError } from '../../contract/errors.ts'
import {
  type ReplyFault,
  replyPath,
  signatureHeader,
  timestampHeader,
  verifyReply,
} from '../../contract/reply.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import { limitBody } from '../../guard/body-limit.ts'

/** Bytes of a reply at most: a caption is a sentence. */
const maxReplyBytes = 64 * 1024

/**
 * `POST /internal/replies/{id}`: where processors announce finished captions. Who may is decided by the signature
 * alone, so it needs no API key; it is no part of the public document. Without a secret it does not exist.
 */
export function addReplies(
  app: OpenAPIHono<EdgeEnv>,
  { mailbox, now, replySecret }: Pick<EdgeDeps, 'mailbox' | 'now' | 'replySecret'>,
): void {
  if (replySecret === undefined) return
  app.post(replyPath(':id'), limitBody(maxReplyBytes, 'A caption is shorter.'), async (c) => {
    const id = c.req.param('id')
    const reply = {
      signature: c.req.header(signatureHeader),
      timestamp: c.req.header(timestampHeader),
      body: await c.req.text(),
    }
    const checked = await verifyReply(replySecret, id, reply, now())
    if ('fault' in checked) throw faults[checked.fault]()
    return c.json({ delivered: await mailbox.deliver(id, checked.caption) })
  })
}

const faults: Record<ReplyFault, () => TurbineError> = {
  malformed: () =>
    new TurbineError(`A reply needs the headers ${signatureHeader} and ${timestampHeader}.`, {
      status: 400,
      code: 'reply_malformed',
    }),
  forged: () =>
    new TurbineError(
      'The signature does not fit this reply. Processors and edges need the same TURBINE_REPLY_SECRET.',
      { status: 401, code: 'reply_forged' },
    ),
  stale: () =>
    new TurbineError(
      'The reply is too old. The clocks of processors and edges must agree within two minutes.',
      {
        status: 401,
        code: 'reply_stale',
      },
    ),
}
