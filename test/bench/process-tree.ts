import { readdirSync, readFileSync } from 'node:fs'

/** What a process and those that it has started hold. */
export interface TreeUsage {
  /** Resident, MB: what each has for itself, and the files mapped by all of them once. */
  residentMb: number
  /** Open files and sockets. */
  files: number
  processes: number
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
  }
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

/** Watches a process and those that it starts; `pid` may change when it is started again. */
export function watchTree(pid: () => number | undefined, everyMs = 50): { peak(): TreeUsage; stop(): void } {
  let peak: TreeUsage = { residentMb: 0, files: 0, processes: 0 }
  const look = () => {
    const now = pid()
    if (now === undefined) return
    const usage = treeUsage(now)
    peak = {
      residentMb: Math.max(peak.residentMb, usage.residentMb),
      files: Math.max(peak.files, usage.files),
      processes: Math.max(peak.processes, usage.processes),
    }
  }
  const timer = setInterval(look, everyMs)
  return {
    peak() {
      look()
      const seen = peak
      peak = { residentMb: 0, files: 0, processes: 0 }
      return seen
    },
    stop: () => clearInterval(timer),
  }
}
