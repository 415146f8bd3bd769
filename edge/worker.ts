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

/** Of the request that is being answered; the app and what is around it are there once for all requests. */
const origins = new AsyncLocalStorage<string>()
let app: ReturnType<typeof createApp> | undefined

/** The edge on Cloudflare Workers; `wrangler.toml` says what it is bound to. */
export default {
  async fetch(request: Request, env: WorkerEnv): Promise<Response> {
    try {
      app ??= createApp(workerDeps(env, { origin: () => origins.getStore()!, background: waitUntil }))
    } catch (error) {
      if (error instanceof ConfigError) return misconfigured(error)
      throw error
    }
    const served = app
    const answered = origins.run(new URL(request.url).origin, async () => served.fetch(request))
    // Whose caller has gone is ended on the spot, and with it what counts it out, unless it is waited for.
    waitUntil(answered)
    return answered
  },
}

/** Callers learn that it is so, operators why. */
function misconfigured({ message }: ConfigError): Response {
  createConsoleLog().error({}, message)
  const error = new TurbineError(
    'The service is not set up right. Its operator finds the reason in its log.',
    {
      status: 503,
      code: 'misconfigured',
    },
  )
  return Response.json(error.toBody(), { status: error.status })
}
