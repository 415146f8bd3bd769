import { EventEmitter } from 'node:events'
import type { SignalSource } from './interruption.ts'

/** Signals for tests: `emit('SIGINT', 'SIGINT')` sends one, `killed` has those that the process sent itself. */
export class FakeSignals extends EventEmitter implements SignalSource {
  readonly pid = 1
  readonly killed: NodeJS.Signals[] = []

  kill(_pid: number, signal: NodeJS.Signals): void {
    this.killed.push(signal)
  }
}
