import type { OpenAPIHono } from '@hono/zod-openapi'
import { TurbineError } from '../../contract/errors.ts'
import {
  callerLeftStatus,
  type ReplyFault,
  replyPath,
  signatureHeader,
  timestampHeader,
  verifyReply,
} from '../../contract/reply.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import { receiveBody } from '../../guard/body.ts'

/** Maximum bytes of a reply: a caption is a sentence. */
const maxReplyBytes = 64 * 1024

/**
 * `POST /internal/replies/{id}`: processors announce finished captions here, and parts of those that grow. Authenticated by signature, not by API
 * key, and not part of the public document. Without a secret the route does not exist.
 */
export function addReplies(
  app: OpenAPIHono<EdgeEnv>,
  { mailbox, now, replySecret, bodies }: Pick<EdgeDeps, 'mailbox' | 'now' | 'replySecret' | 'bodies'>,
): void {
  if (replySecret === undefined) return
  // No bytes are reserved: whoever took them all would keep replies out, and a connection buffers as much.
  const body = receiveBody(
    { bodies },
    { maxBytes: maxReplyBytes, remedy: 'A caption is shorter.', copies: 0 },
  )
  app.post(replyPath(':id'), body, async (c) => {
    const id = c.req.param('id')
    const reply = {
      signature: c.req.header(signatureHeader),
      timestamp: c.req.header(timestampHeader),
      body: new TextDecoder().decode(c.get('body').bytes),
    }
    const checked = verifyReply(replySecret, id, reply, now())
    if ('fault' in checked) {
      const [status, message] = faults[checked.fault]
      throw new TurbineError(message, { status, code: `reply_${checked.fault}` })
    }
    if ('caption' in checked) return c.json({ delivered: await mailbox.deliver(id, checked.caption) })
    const shown = await mailbox.show(id, checked.part)
    return c.json({ delivered: shown === 'taken' }, shown === 'left' ? callerLeftStatus : 200)
  })
}

const faults: Record<ReplyFault, [status: 400 | 401, message: string]> = {
  malformed: [
    400,
    `A reply is a finished caption, or a part of one, with the headers ${signatureHeader} and ${timestampHeader}.`,
  ],
  forged: [401, 'The signature is wrong. Processors and edges need the same TURBINE_REPLY_SECRET.'],
  stale: [401, 'The reply is too old. The clocks of processors and edges must agree within two minutes.'],
}
