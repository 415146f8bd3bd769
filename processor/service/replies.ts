import type { FinishedCaption } from '../../edge/contract/caption.ts'
import type { CaptionJob } from '../../edge/contract/job.ts'
import { type CaptionPart, type PartDelivery, replyPath } from '../../edge/contract/reply.ts'
import { createPartSender, type PartSenderOptions } from '../../edge/fleet/part-sender.ts'
import { createKeepAliveFetch, createPartReplier, createReplier } from '../../edge/fleet/replier.ts'
import { CallerLeftError, createMailbox, type LocalMailbox } from '../../edge/submit/mailbox.ts'
import { type Config, ConfigError } from '../../infra/config.ts'
import type { Shutdown } from '../../infra/shutdown.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { CallerLine, InteractiveJobsOptions } from '../jobs/interactive.ts'

/** Replies of a process. */
export interface Replies {
  /** Callers that wait in this process. */
  mailbox: LocalMailbox
  /** Delivers a finished caption to its job's `reply-to`. @returns whether the caller has it for sure */
  deliver(replyTo: string, caption: FinishedCaption): Promise<boolean>
  lineTo: NonNullable<InteractiveJobsOptions['lineTo']>
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
    return { mailbox, deliver, lineTo: (job) => localLine(mailbox, job), listenAt: () => {} }
  }
  if (replySecret === undefined)
    throw new ConfigError(
      'TURBINE_REPLY_SECRET is not set. Set the same secret of 16 characters or more for all edges and processors, e.g. from: openssl rand -hex 32',
    )
  const connections = createKeepAliveFetch()
  shutdown.add(() => connections.close())
  const reply = createReplier({ secret: replySecret, fetch: connections.fetch })
  const replyPart = createPartReplier({ secret: replySecret, fetch: connections.fetch })
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
    lineTo(job) {
      if (mailbox.leaving(job.id)) return localLine(mailbox, job)
      return lineOf(job, {
        everyMs: betweenPartsMs,
        // A caption that a repeat of its request may ask for is made anyway.
        askEveryMs: job.repeatable ? undefined : betweenQuestionsMs,
        post: (part) => replyPart(job.replyTo!, part),
        onFailure: (err) =>
          log.warn({ err, replyTo: job.replyTo }, 'part of a caption not reported to its edge'),
      })
    },
    listenAt(url) {
      origin ??= url
    },
  }
}

/** Parts of one caption to another process, ms: about as often as people see a difference. */
const betweenPartsMs = 100
/** After so long of silence a caller in another process is asked for, ms: under load captions wait for a second. */
const betweenQuestionsMs = 4_000

/** Line to a caller of this process, if it is one. */
function localLine(mailbox: LocalMailbox, job: LineJob): CallerLine {
  const left = mailbox.leaving(job.id) ?? new AbortController().signal
  if (!job.streamed) return { left, show: () => {}, close: () => {} }
  const post = async (part: CaptionPart) => mailbox.show(job.id, part)
  return { ...lineOf(job, { post }), left }
}

type LineJob = Pick<CaptionJob, 'id' | 'acceptedAt' | 'streamed'>

interface LineOptions extends Pick<PartSenderOptions, 'everyMs' | 'askEveryMs' | 'onFailure'> {
  post(part: CaptionPart): Promise<PartDelivery>
}

function lineOf({ id, acceptedAt }: LineJob, { post, ...options }: LineOptions): CallerLine {
  const left = new AbortController()
  const head = { id, object: 'caption.part', created: Math.floor(acceptedAt / 1000) } as const
  const { show, close } = createPartSender({
    ...options,
    post: (texts) => post({ ...head, texts }),
    onLeft: () => left.abort(new CallerLeftError()),
  })
  return { left: left.signal, show, close }
}
