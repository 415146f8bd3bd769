import { setTimeout as delay } from 'node:timers/promises'
import { type RoleProcess, type RoleProcessOptions, StartError, startRoleProcess } from './role-process.ts'

export interface MemberOptions extends Omit<RoleProcessOptions, 'name'> {
  index: number
  onFault(name: string, what: string): void
}

/** After SIGTERM a process has ended within its grace period and this, ms. */
const endsWithinMs = 20_000
const restartAfterMs = 1000

/**
 * A place of the fleet for one process of a role: it is started again whenever it has ended, as an orchestrator does,
 * unless it is wanted to be down.
 */
export class Member {
  readonly name: string
  readonly role: RoleProcessOptions['role']
  readonly index: number
  /** How often it was started. */
  starts = 0
  #wanted = new AbortController()
  #process: RoleProcess | undefined
  #starting: Promise<void> | undefined
  readonly #options: MemberOptions

  constructor(options: MemberOptions) {
    this.role = options.role
    this.index = options.index
    this.name = `${options.role}-${options.index}`
    this.#options = options
  }

  /** The process, while it is there and ready. */
  get process(): RoleProcess | undefined {
    return this.#process
  }

  /** Starts it; resolves when it is ready, however often that is tried, or when it is not wanted any more. */
  start(): Promise<void> {
    if (this.#wanted.signal.aborted) this.#wanted = new AbortController()
    this.#starting ??= this.#untilReady().finally(() => {
      this.#starting = undefined
    })
    return this.#starting
  }

  /** Sends a signal that ends it; resolves when it has ended. It stays down until `start`. */
  async down(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#wanted.abort()
    await this.#starting
    const running = this.#process
    if (!running) return
    running.signal(signal)
    const late = delay(endsWithinMs, 'late' as const, { ref: false })
    const exit = await Promise.race([running.exited, late])
    if (exit === 'late') {
      this.#options.onFault(this.name, `has not ended within ${endsWithinMs / 1000} s of ${signal}`)
      running.signal('SIGKILL')
      await running.exited
    } else if (signal === 'SIGTERM' && exit.code !== 0) {
      this.#options.onFault(this.name, `ended with ${exit.signal ?? exit.code} after SIGTERM`)
    }
  }

  freeze(): void {
    this.#process?.signal('SIGSTOP')
  }

  thaw(): void {
    this.#process?.signal('SIGCONT')
  }

  /** Ends it for good. */
  async end(): Promise<void> {
    await this.down('SIGKILL')
  }

  async #untilReady(): Promise<void> {
    const { signal } = this.#wanted
    while (!signal.aborted && !this.#process) {
      try {
        this.#process = await startRoleProcess({ ...this.#options, name: this.name }, signal)
        this.starts++
        void this.#watch(this.#process)
      } catch (error) {
        if (!(error instanceof StartError)) throw error
        // Its log says why: e.g. Kafka is away.
        if (!signal.aborted) await delay(restartAfterMs)
      }
    }
  }

  async #watch(running: RoleProcess): Promise<void> {
    const { code, signal } = await running.exited
    this.#process = undefined
    if (this.#wanted.signal.aborted) return
    this.#options.onFault(this.name, `ended by itself with ${signal ?? code}`)
    await this.start()
  }
}
