/** The part of `process` that signals come from and go to. */
export interface SignalSource {
  readonly pid: number
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown
  off(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown
  kill(pid: number, signal: NodeJS.Signals): unknown
}

export interface Interruption {
  /** Aborts at the first SIGINT or SIGTERM; its `reason` is the signal's name. */
  signal: AbortSignal
  /** Gives the signals back to their default. */
  dispose(): void
}

/** Lets the first SIGINT or SIGTERM end a run in order, and the second one end the process at once. */
export function watchInterruption(source: SignalSource, onFirst: () => void): Interruption {
  const controller = new AbortController()
  const dispose = () => {
    source.off('SIGINT', interrupt)
    source.off('SIGTERM', interrupt)
  }
  const interrupt = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) {
      // The signal's own default ends it without waiting for threads that are in the middle of a run.
      dispose()
      source.kill(source.pid, name)
      return
    }
    controller.abort(name)
    onFirst()
  }
  source.on('SIGINT', interrupt)
  source.on('SIGTERM', interrupt)
  return { signal: controller.signal, dispose }
}
