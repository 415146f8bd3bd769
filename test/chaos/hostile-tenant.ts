import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { apart, endWithThisProcess } from '../servers/tools.ts'
import type { AttackReport, AttackRequest } from './hostile-process.ts'

const program = fileURLToPath(new URL('./hostile-process.ts', import.meta.url))

/** A tenant with bad intentions, in a process of its own: what its attacks cost is not to slow the honest ones. */
export interface HostileTenant {
  /** Resolves when the attack has let go of everything. */
  attack(name: string, forMs: number): Promise<void>
  /** How often each thing came of all attacks so far. */
  outcomes: Record<string, Record<string, number>>
  close(): Promise<void>
}

/** Starts the tenant's process; resolves when what it attacks with is built. */
export async function startHostileTenant(target: {
  edges: readonly string[]
  apiKey: string
}): Promise<HostileTenant> {
  const child: ChildProcess = fork(program, apart)
  endWithThisProcess(child)
  await once(child, 'message')
  const outcomes: Record<string, Record<string, number>> = {}
  const waiting = new Map<number, () => void>()
  let last = 0
  child.on('message', ({ id, name, outcomes: counted }: AttackReport) => {
    const sums = outcomes[name] ?? {}
    outcomes[name] = sums
    for (const [outcome, times] of Object.entries(counted)) sums[outcome] = (sums[outcome] ?? 0) + times
    waiting.get(id)?.()
    waiting.delete(id)
  })
  child.once('exit', () => {
    for (const resolve of waiting.values()) resolve()
  })
  return {
    outcomes,
    attack(name, forMs) {
      const id = ++last
      const url = target.edges[id % target.edges.length]!
      const { promise, resolve } = Promise.withResolvers<void>()
      if (!child.connected) return Promise.reject(new Error('The hostile process has ended.'))
      waiting.set(id, resolve)
      child.send({ id, name, forMs, url, apiKey: target.apiKey } satisfies AttackRequest)
      return promise
    },
    async close() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
}
