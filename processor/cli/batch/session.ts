import { InterruptedError } from '../errors.ts'
import { type SignalSource, watchInterruption } from '../interruption.ts'
import { printNote, type Terminal } from '../progress.ts'
import type { Client } from './client.ts'

/** Dependencies of the batch commands. */
export interface BatchEnvironment extends Terminal {
  /** Variables `TURBINE_URL` and `TURBINE_API_KEY`. */
  env: Record<string, string | undefined>
  stdin: AsyncIterable<Uint8Array>
  signals: SignalSource
  fetch?: typeof fetch
  /** Pauses between polls and retries, ms. */
  sleep?(ms: number, signal: AbortSignal): Promise<unknown>
}

/** Options of every batch command. */
export interface ServiceFlags {
  url?: string
}

export const defaultServiceUrl = 'http://127.0.0.1:8787'

export interface Session {
  client: Client
  /** Aborts at the first SIGINT or SIGTERM. */
  signal: AbortSignal
  /** Sets the message of an interruption: the state of the work and how to resume it. */
  onInterrupt(message: string): void
}

/**
 * Runs `work` with a client of the configured service, until it ends or a signal arrives.
 * @throws UsageError for an invalid URL; InterruptedError with the message of `onInterrupt`; errors of `work`
 */
export async function withService<T>(
  { url }: ServiceFlags,
  environment: BatchEnvironment,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const { Client } = await import('./client.ts')
  const { env, stderr } = environment
  const { signal, dispose } = watchInterruption(environment.signals, () => {})
  let interrupted = 'Stopped.'
  try {
    const client = new Client({
      url: url || env.TURBINE_URL || defaultServiceUrl,
      apiKey: env.TURBINE_API_KEY || undefined,
      signal,
      onNote: (text) => printNote(stderr, text),
      fetch: environment.fetch,
      sleep: environment.sleep,
    })
    const onInterrupt = (message: string) => {
      interrupted = message
    }
    return await work({ client, signal, onInterrupt })
  } catch (error) {
    throw signal.aborted ? new InterruptedError(interrupted, signal.reason) : error
  } finally {
    dispose()
  }
}
