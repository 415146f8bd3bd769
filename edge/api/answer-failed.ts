import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { Caption } from '../contract/caption.ts'
import type { EdgeEnv } from '../deps.ts'

/** Answers with the status and the error of a caption that failed. */
export function answerFailed(
  c: Context<EdgeEnv>,
  { http_status, error, retry_after }: Extract<Caption, { status: 'failed' }>,
): Response {
  if (retry_after !== undefined) c.header('Retry-After', String(retry_after))
  return c.json({ error }, http_status as ContentfulStatusCode)
}
