import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SessionOptions } from '../../../processor/onnx/session.ts'

/** An event of ONNX Runtime's profile. */
export interface ProfileEvent {
  cat: string
  name: string
  /** When it began, microseconds. */
  ts: number
  /** Microseconds. On a GPU that of launching the kernel, unless the provider was built with CUDA's profiler. */
  dur: number
  args?: { op_name?: string; provider?: string }
}

/** Nodes of one kind: how often they ran, and how long in all. */
export interface Spent {
  count: number
  ms: number
}

/** What a profile says of where the nodes of one run went. */
export interface ProfileSummary {
  /** Nodes by execution provider. */
  providers: Record<string, Spent>
  /** Those that ran on the CPU, by operator; of a GPU's session these wait for it, or it for them. */
  onCpu: Record<string, Spent>
  /** Copies between the host and the device, by operator. */
  copies: Record<string, Spent>
  /** The ten operators that took longest, dearest first. */
  dearest: ({ operator: string } & Spent)[]
}

/** Operators that hold others, whose time is counted with those. */
const holders = new Set(['If', 'Loop', 'Scan'])

/** Sums the nodes of a profile, for one of its runs. The first run is left out: it loads and sets up what later ones have. */
export function summariseProfile(events: readonly ProfileEvent[]): ProfileSummary {
  const [first, ...later] = events
    .filter(({ cat, name }) => cat === 'Session' && name === 'model_run')
    .toSorted((a, b) => a.ts - b.ts)
  if (!first || later.length === 0) throw new RangeError('a profile needs two runs or more')
  const runs = later.length
  const begin = first.ts + first.dur
  const nodes = events.filter(
    ({ cat, name, ts }) => cat === 'Node' && name.endsWith('_kernel_time') && ts >= begin,
  )
  const sum = (key: (event: ProfileEvent) => string | undefined) => {
    const sums: Record<string, Spent> = {}
    for (const event of nodes) {
      const name = key(event)
      if (name === undefined) continue
      const { count, ms } = sums[name] ?? { count: 0, ms: 0 }
      sums[name] = { count: count + 1 / runs, ms: ms + event.dur / 1000 / runs }
    }
    return sums
  }
  const operator = ({ args }: ProfileEvent) => args?.op_name ?? '?'
  const isCopy = (event: ProfileEvent) => operator(event).startsWith('Memcpy')
  const work = sum((event) => (holders.has(operator(event)) ? undefined : operator(event)))
  return {
    providers: sum(({ args }) => args?.provider?.replace('ExecutionProvider', '') ?? '?'),
    onCpu: sum((event) => (event.args?.provider === 'CPUExecutionProvider' ? operator(event) : undefined)),
    copies: sum((event) => (isCopy(event) ? operator(event) : undefined)),
    dearest: Object.entries(work)
      .map(([operator, spent]) => ({ operator, ...spent }))
      .sort((a, b) => b.ms - a.ms)
      .slice(0, 10),
  }
}

/** Profiles some runs of the session that `open` opens with these options. */
export async function profiled(
  open: (
    options: SessionOptions,
  ) => Promise<{ run(): Promise<unknown>; endProfiling(): void; close(): Promise<void> }>,
  runs = 4,
): Promise<ProfileSummary> {
  const folder = await mkdtemp(join(tmpdir(), 'turbine-profile-'))
  try {
    const session = await open({ enableProfiling: true, profileFilePrefix: join(folder, 'run') })
    for (let run = 0; run < runs; run++) await session.run()
    session.endProfiling()
    await session.close()
    const [file] = await readdir(folder)
    return summariseProfile(JSON.parse(await readFile(join(folder, file!), 'utf8')))
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Lines of a table. */
export function profileLines(title: string, { providers, onCpu, copies, dearest }: ProfileSummary): string[] {
  const said = (sums: Record<string, Spent>) =>
    Object.entries(sums)
      .sort(([, a], [, b]) => b.ms - a.ms)
      .slice(0, 12)
      .map(([name, { count, ms }]) => `${name} ${count.toFixed(0)} (${ms.toFixed(1)} ms)`)
      .join(', ') || 'none'
  return [
    `${title}: nodes of a run by provider: ${said(providers)}`,
    `  on the CPU: ${said(onCpu)}`,
    `  copies: ${said(copies)}`,
    '  dearest operator             count         ms',
    ...dearest.map(
      ({ operator, count, ms }) =>
        `  ${operator.padEnd(24)}${count.toFixed(0).padStart(10)}${ms.toFixed(2).padStart(11)}`,
    ),
  ]
}
