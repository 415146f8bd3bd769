import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { apart, endWithThisProcess } from '../servers/tools.ts'
import type { AttackReport, AttackRequest, PrepareRequest } from './hostile-process.ts'

const program = fileURLToPath(new URL('./hostile-process.ts', import.meta.url))

/** A tenant with bad intentions, in a process of its own: what its attacks cost is not to slow the honest ones. */
export interface HostileTenant {
  /** Resolves when the attack has let go of everything. */
  attack(request: Omit<AttackRequest, 'id' | 'share'>): Promise<Pick<AttackReport, 'outcomes' | 'cpuSeconds'>>
  close(): Promise<void>
}

/**
 * Starts the tenant's process; resolves when what it attacks with is built.
 * @param share of each attack's full size
 */
export async function startHostileTenant({ names, share }: PrepareRequest): Promise<HostileTenant> {
  const child: ChildProcess = fork(program, apart)
  endWithThisProcess(child)
  child.send({ names, share } satisfies PrepareRequest)
  await once(child, 'message')
  const waiting = new Map<number, (report: Pick<AttackReport, 'outcomes' | 'cpuSeconds'>) => void>()
  let last = 0
  child.on('message', (report: AttackReport) => {
    waiting.get(report.id)?.(report)
    waiting.delete(report.id)
  })
  child.once('exit', () => {
    for (const resolve of waiting.values()) resolve({ outcomes: {}, cpuSeconds: 0 })
  })
  return {
    async attack(request) {
      if (!child.connected) throw new Error('The hostile process has ended.')
      const id = ++last
      const { promise, resolve } = Promise.withResolvers<Pick<AttackReport, 'outcomes' | 'cpuSeconds'>>()
      waiting.set(id, resolve)
      child.send({ ...request, id, share } satisfies AttackRequest)
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
