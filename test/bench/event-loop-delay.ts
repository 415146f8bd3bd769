import { appendFileSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'

// Loaded with `--import` into a service: how long its main thread was busy with one thing, as lines of a file. The
// threads and processes that it starts have the same imports, but not the variable.

/** Longest turn of the event loop since the report before, ms: by the clock, and on the processor alone. */
export interface LoopReport {
  /** Unix ms. */
  at: number
  pid: number
  wallMs: number
  /** A busy machine stretches the clock, but not this. */
  cpuMs: number
}

const path = process.env.EVENT_LOOP_REPORT
delete process.env.EVENT_LOOP_REPORT

const everyMs = 10
const reportMs = 100

if (path !== undefined && isMainThread) {
  const cpuMs = () => {
    const { user, system } = process.threadCpuUsage()
    return (user + system) / 1000
  }
  let last = performance.now()
  let lastCpu = cpuMs()
  let longest = { wallMs: 0, cpuMs: 0 }
  let reported = last
  setInterval(() => {
    const now = performance.now()
    const cpu = cpuMs()
    longest = {
      wallMs: Math.max(longest.wallMs, now - last - everyMs),
      cpuMs: Math.max(longest.cpuMs, cpu - lastCpu),
    }
    last = now
    lastCpu = cpu
    if (now - reported < reportMs) return
    reported = now
    const report: LoopReport = { at: Date.now(), pid: process.pid, ...longest }
    appendFileSync(path, `${JSON.stringify(report)}\n`)
    longest = { wallMs: 0, cpuMs: 0 }
  }, everyMs).unref()
}
