import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Answer, ClosedLoop, TrafficRequest } from './traffic-client.ts'

const client = fileURLToPath(new URL('./traffic-client.ts', import.meta.url))

/** Callers in a process of their own, so that they and the service do not share a thread. */
export interface Traffic {
  /** Resolves when every request has been answered, in the order in which they were to be sent. */
  run(request: TrafficRequest): Promise<Answer[]>
  close(): void
}

/** Starts the callers; one run at a time. */
export function startTraffic(): Traffic {
  const child = fork(client)
  return {
    run: (request) =>
      new Promise((resolve, reject) => {
        child.removeAllListeners()
        child.once('message', (answers) => resolve(answers as Answer[]))
        child.once('exit', (code) => reject(new Error(`the callers ended with code ${code}`)))
        child.send(request)
      }),
    close() {
      child.removeAllListeners()
      if (child.connected) child.disconnect()
    },
  }
}

/**
 * Captions per second that a service sustains for callers who never pause.
 * @throws Error when a request was not answered with a caption
 */
export async function sustainedRate(traffic: Traffic, load: Omit<ClosedLoop, 'kind'>): Promise<number> {
  const answers = await traffic.run({ kind: 'closed', ...load })
  const refused = answers.find(({ pruning }) => pruning === undefined)
  if (refused) throw new Error(`the service responded ${refused.status} to one of ${load.callers} callers`)
  const inTime = answers.filter(({ answeredMs }) => answeredMs <= 1000 * load.seconds)
  return inTime.length / load.seconds
}
