import { readdirSync, readFileSync } from 'node:fs'

/** What a process and those that it has started hold. */
export interface TreeUsage {
  /** Resident, MB: what each has for itself, and the files mapped by all of them once. */
  residentMb: number
  /** Open files and sockets. */
  files: number
  processes: number
  /** Processor time of those that run, and of the first one's main thread, s. */
  cpuSeconds: number
  mainCpuSeconds: number
}

/** Reads it from `/proc`; all 0 when the process is gone. */
export function treeUsage(pid: number): TreeUsage {
  const pids = descendants(pid)
  const parts = pids.map(memoryOf)
  const own = parts.reduce((sum, { own }) => sum + own, 0)
  const shared = Math.max(0, ...parts.map(({ mapped }) => mapped))
  return {
    residentMb: (own + shared) / 1024,
    files: pids.reduce((sum, each) => sum + ofFolder(`/proc/${each}/fd`).length, 0),
    processes: pids.length,
    cpuSeconds: pids.reduce((sum, each) => sum + cpuSecondsOf(`/proc/${each}/stat`), 0),
    mainCpuSeconds: cpuSecondsOf(`/proc/${pid}/task/${pid}/stat`),
  }
}

/** Linux counts in hundredths of a second. */
function cpuSecondsOf(path: string): number {
  // The name in brackets may hold spaces; user and system time are the 12th and 13th field behind it.
  const fields = textOf(path).split(') ').at(-1)!.split(' ')
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / 100
}

function descendants(pid: number): number[] {
  const children = ofFolder(`/proc/${pid}/task`).flatMap((thread) =>
    textOf(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean).map(Number),
  )
  return [pid, ...children.flatMap(descendants)]
}

/** KB. */
function memoryOf(pid: number): { own: number; mapped: number } {
  const status = textOf(`/proc/${pid}/status`)
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0)
  return { own: field('RssAnon') + field('RssShmem'), mapped: field('RssFile') }
}

/** A process may end at any time. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function ofFolder(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

/** Watches the memory and files of a process and those that it starts; `pid` may change when it is started again. */
export function watchTree(
  pid: () => number | undefined,
  everyMs = 50,
): { peak(): Pick<TreeUsage, 'residentMb' | 'files'>; stop(): void } {
  let peak = { residentMb: 0, files: 0 }
  const look = () => {
    const now = pid()
    if (now === undefined) return
    const { residentMb, files } = treeUsage(now)
    peak = { residentMb: Math.max(peak.residentMb, residentMb), files: Math.max(peak.files, files) }
  }
  const timer = setInterval(look, everyMs)
  return {
    peak() {
      look()
      const seen = peak
      peak = { residentMb: 0, files: 0 }
      return seen
    },
    stop: () => clearInterval(timer),
  }
}
