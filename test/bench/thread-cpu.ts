import { readdirSync, readFileSync } from 'node:fs'

/** CPU time of a process, ms. */
export interface CpuTime {
  /** Of its main thread. */
  main: number
  /** Of its threads but those that run models: of all that is neither inference nor another process. */
  outside: number
  /** Of all its threads, and of the processes that it has started and that run still. */
  all: number
}

/** Threads that run models have this name, and so have those that ONNX Runtime starts in them. */
const deviceThread = /^device /

/**
 * Reads CPU times from `/proc`, where the system has it; else all are 0.
 * @param except processes that do not count, with those that they have started
 */
export function cpuTime(pid: number, except: readonly number[] = []): CpuTime {
  const threads = idsOf(pid).map((id) => ({
    // Nanoseconds on a core are the first number.
    ms: Number(textOf(`/proc/${pid}/task/${id}/schedstat`).split(' ')[0]) / 1e6,
    name: textOf(`/proc/${pid}/task/${id}/comm`),
    children: textOf(`/proc/${pid}/task/${id}/children`).split(' ').filter(Boolean).map(Number),
    isMain: id === String(pid),
  }))
  const sum = (some: typeof threads) => some.reduce((total, { ms }) => total + ms, 0)
  const children = threads.flatMap((thread) => thread.children).filter((child) => !except.includes(child))
  return {
    main: sum(threads.filter(({ isMain }) => isMain)),
    outside: sum(threads.filter(({ name }) => !deviceThread.test(name))),
    all: sum(threads) + children.reduce((total, child) => total + cpuTime(child).all, 0),
  }
}

/** CPU time an image, ms, of what processes do in `work`. */
export async function cpuPerImage<T>(
  images: number,
  read: () => CpuTime,
  work: () => Promise<T>,
): Promise<{ result: T; cpu: CpuTime }> {
  const before = read()
  const result = await work()
  const after = read()
  const of = (part: keyof CpuTime) => (after[part] - before[part]) / images
  return { result, cpu: { main: of('main'), outside: of('outside'), all: of('all') } }
}

function idsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch {
    return []
  }
}

/** A thread may end at any time. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
