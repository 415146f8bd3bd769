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

/** Maximum bytes of a reply: a caption is a sentence. */
const maxReplyBytes = 64 * 1024

/**
 * `POST /internal/replies/{id}`: processors announce finished captions here. Authenticated by signature, not by API
 * key, and not part of the public document. Without a secret the route does not exist.
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
    const checked = verifyReply(replySecret, id, reply, now())
    if ('fault' in checked) {
      const [status, message] = faults[checked.fault]
      throw new TurbineError(message, { status, code: `reply_${checked.fault}` })
    }
    return c.json({ delivered: await mailbox.deliver(id, checked.caption) })
  })
}

const faults: Record<ReplyFault, [status: 400 | 401, message: string]> = {
  malformed: [400, `A reply needs the headers ${signatureHeader} and ${timestampHeader}.`],
  forged: [401, 'The signature is wrong. Processors and edges need the same TURBINE_REPLY_SECRET.'],
  stale: [401, 'The reply is too old. The clocks of processors and edges must agree within two minutes.'],
}
