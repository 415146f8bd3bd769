import { Agent, fetch } from 'undici'
import type { PostReply } from './replier.ts'

/**
 * A `fetch` for Node that keeps its connections open for a minute, so that replies to an edge seldom wait for a
 * handshake. `close` ends them.
 *
 * @example const { fetch, close } = createKeepAliveFetch()
 */
export function createKeepAliveFetch(): { fetch: PostReply; close(): Promise<void> } {
  const agent = new Agent({ keepAliveTimeout: 60_000, connections: 64 })
  return {
    fetch: (url, init) => fetch(url, { ...init, dispatcher: agent }),
    close: () => agent.close(),
  }
}
