import { readFileSync } from 'node:fs'

/** Of the kernel's ticks that `/proc` counts in. */
const tickMs = 10
/** Places of `utime` and `stime` behind the name of the process; see proc(5). */
const userTime = 11
const systemTime = 12

/** CPU time that a process has taken, ms; undefined where the system does not tell. */
export function cpuTimeOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return tickMs * (Number(fields[userTime]) + Number(fields[systemTime]))
  } catch {
    return undefined
  }
}
