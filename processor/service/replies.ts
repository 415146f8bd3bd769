import type { FinishedCaption } from '../../edge/contract/caption.ts'
import { replyPath } from '../../edge/contract/reply.ts'
import { createKeepAliveFetch, createReplier } from '../../edge/fleet/replier.ts'
import { createMailbox, type LocalMailbox } from '../../edge/submit/mailbox.ts'
import { type Config, ConfigError } from '../../infra/config.ts'
import type { Shutdown } from '../../infra/shutdown.ts'
import type { Logger } from '../../infra/telemetry/log.ts'

/** Replies of a process. */
export interface Replies {
  /** Callers that wait in this process. */
  mailbox: LocalMailbox
  /** Delivers a finished caption to its job's `reply-to`. @returns whether the caller has it for sure */
  deliver(replyTo: string, caption: FinishedCaption): Promise<boolean>
  /** Sets the URL that this process receives replies at, unless a setting does. */
  listenAt(url: string): void
}

/**
 * Delivers captions to callers of this process directly, and to those of another edge by a signed request.
 * @throws ConfigError when a fleet has no secret to sign with
 */
export function openReplies(
  { replySecret, publicUrl, kafkaBrokers }: Config,
  { log, shutdown }: { log: Pick<Logger, 'warn'>; shutdown: Shutdown },
): Replies {
  if (kafkaBrokers === undefined) {
    const mailbox = createMailbox()
    const deliver = async (_: string, caption: FinishedCaption) => mailbox.deliver(caption.id, caption)
    return { mailbox, deliver, listenAt: () => {} }
  }
  if (replySecret === undefined)
    throw new ConfigError(
      'TURBINE_REPLY_SECRET is not set. Set the same secret of 16 characters or more for all edges and processors, e.g. from: openssl rand -hex 32',
    )
  const connections = createKeepAliveFetch()
  shutdown.add(() => connections.close())
  const reply = createReplier({ secret: replySecret, fetch: connections.fetch })
  let origin = publicUrl?.replace(/\/$/, '')
  const mailbox = createMailbox((id) => `${origin}${replyPath(id)}`)
  return {
    mailbox,
    async deliver(replyTo, caption) {
      if (mailbox.deliver(caption.id, caption)) return true
      return reply(replyTo, caption).catch((err) => {
        log.warn({ err, replyTo }, 'caption not reported to its edge; it is in the store')
        return false
      })
    },
    listenAt(url) {
      origin ??= url
    },
  }
}
