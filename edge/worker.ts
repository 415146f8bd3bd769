import { waitUntil } from 'cloudflare:workers'
import { AsyncLocalStorage } from 'node:async_hooks'
import { ConfigError } from '../infra/config.ts'
import { createApp } from './app.ts'
import { TurbineError } from './contract/errors.ts'
import { createConsoleLog } from './workers/console-log.ts'
import { workerDeps } from './workers/deps.ts'
import type { WorkerEnv } from './workers/env.ts'

export { LimiterObject } from './workers/limiter-object.ts'
export { MailboxObject } from './workers/mailbox-object.ts'
export { ProducerObject } from './workers/producer-object.ts'

/** Origin of the current request; the app is shared by all requests. */
const origins = new AsyncLocalStorage<string>()
let app: ReturnType<typeof createApp> | undefined

/** The edge on Cloudflare Workers; `wrangler.toml` has its bindings. */
export default {
  async fetch(request: Request, env: WorkerEnv): Promise<Response> {
    try {
      app ??= createApp(workerDeps(env, { origin: () => origins.getStore()!, background: waitUntil }))
    } catch (error) {
      if (error instanceof ConfigError) return misconfigured(error)
      throw error
    }
    const served = app
    const address = request.headers.get('cf-connecting-ip') ?? undefined
    const answered = origins.run(new URL(request.url).origin, async () => served.fetch(request, { address }))
    // Otherwise a request whose caller disconnects is terminated at once, before it is released from its limits.
    waitUntil(answered)
    return answered
  },
}

/** Callers get a 503, the log has the reason. */
function misconfigured({ message }: ConfigError): Response {
  createConsoleLog().error({}, message)
  const error = new TurbineError('The service is misconfigured. Its log has the reason.', {
    status: 503,
    code: 'misconfigured',
  })
  return Response.json(error.toBody(), { status: error.status })
}
