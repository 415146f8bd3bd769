/** Part of `process` that handles signals. */
export interface SignalSource {
  readonly pid: number
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown
  off(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown
  kill(pid: number, signal: NodeJS.Signals): unknown
}

export interface Interruption {
  /** Aborts at the first SIGINT or SIGTERM, with the signal's name as its reason. */
  signal: AbortSignal
  /** Restores the default handling. */
  dispose(): void
}

/** Handles the first SIGINT or SIGTERM gracefully; the second one kills the process. */
export function watchInterruption(source: SignalSource, onFirst: () => void): Interruption {
  const controller = new AbortController()
  const dispose = () => {
    source.off('SIGINT', interrupt)
    source.off('SIGTERM', interrupt)
  }
  const interrupt = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) {
      // The default action does not wait for threads that are busy.
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
