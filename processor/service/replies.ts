import type { FinishedCaption } from '../../edge/contract/caption.ts'
import { replyPath } from '../../edge/contract/reply.ts'
import { createKeepAliveFetch, createReplier } from '../../edge/fleet/replier.ts'
import { createMailbox, type LocalMailbox } from '../../edge/submit/mailbox.ts'
import { type Config, ConfigError } from '../../infra/config.ts'
import type { Shutdown } from '../../infra/shutdown.ts'
import type { Logger } from '../../infra/telemetry/log.ts'

/** Where the finished captions of a process go. */
export interface Replies {
  /** Where the callers of this process wait. */
  mailbox: LocalMailbox
  /** Announces a finished caption at the `reply-to` address of its job. */
  deliver(replyTo: string, caption: FinishedCaption): void
  /** Tells at which address this process takes replies, where no setting says so. */
  listenAt(url: string): void
}

/**
 * Hands captions to callers of this process directly, and to those of another edge by a signed request.
 * @throws ConfigError when a fleet has no secret to sign with
 */
export function openReplies(
  { replySecret, publicUrl, kafkaBrokers }: Config,
  { log, shutdown }: { log: Pick<Logger, 'warn'>; shutdown: Shutdown },
): Replies {
  if (kafkaBrokers === undefined) {
    const mailbox = createMailbox()
    return { mailbox, deliver: (_, caption) => void mailbox.deliver(caption.id, caption), listenAt: () => {} }
  }
  if (replySecret === undefined)
    throw new ConfigError(
      'TURBINE_REPLY_SECRET is not set. Set the same text of 16 characters or more for all edges and processors, e.g. from: openssl rand -hex 32',
    )
  const connections = createKeepAliveFetch()
  shutdown.add(() => connections.close())
  const reply = createReplier({ secret: replySecret, fetch: connections.fetch })
  let origin = publicUrl?.replace(/\/$/, '')
  const mailbox = createMailbox((id) => `${origin}${replyPath(id)}`)
  return {
    mailbox,
    deliver(replyTo, caption) {
      if (mailbox.deliver(caption.id, caption)) return
      reply(replyTo, caption).catch((err) =>
        log.warn({ err, replyTo }, 'an edge could not be told of a caption; it lies in the store'),
      )
    },
    listenAt(url) {
      origin ??= url
    },
  }
}
