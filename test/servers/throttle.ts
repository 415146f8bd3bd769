/** A slice is short against a run of the model, and long against a switch of processes, ms. */
const sliceMs = 20

/**
 * Lets a process run for a share of the time only, as if its machine were slower: several of them on one machine then
 * serve more together than one does. (What `cpulimit` does.) `stop` lets it run freely again.
 */
export function throttle(pid: number, share: number): { stop(): void } {
  let timer: NodeJS.Timeout
  const signal = (name: NodeJS.Signals) => {
    try {
      process.kill(pid, name)
      return true
    } catch {
      // It has ended.
      return false
    }
  }
  const run = () => {
    if (signal('SIGCONT')) timer = setTimeout(halt, share * sliceMs)
  }
  const halt = () => {
    if (signal('SIGSTOP')) timer = setTimeout(run, (1 - share) * sliceMs)
  }
  run()
  return {
    stop() {
      clearTimeout(timer)
      signal('SIGCONT')
    },
  }
}
