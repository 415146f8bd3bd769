import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** What a captioner in a process of its own is asked, one JSON line each. */
export interface PeerRequest {
  /** Captions the first pictures that it was given. */
  batch: number
  /** Tokens merged in every layer; Turbine alone. */
  r?: number
  /** Runs the vision encoder alone. */
  part?: 'encoder'
  /** Captions the files of this folder instead, `batch` at a time. */
  photos?: string
}

/** And what it answers. */
export interface PeerAnswer {
  ms: number
  /** Processor time of all its threads, ms. */
  cpu_ms: number
  /** Most that it was ever resident with, MB. */
  peak_rss_mb: number
  ids: number[][]
}

/** Library versions by name. */
export type Versions = Record<string, string>

/** A captioner that is open, in a process of its own. */
export interface Peer {
  versions: Versions
  /** One at a time. @throws Error with the end of what the process printed, when it died */
  ask(request: PeerRequest): Promise<PeerAnswer>
  close(): Promise<void>
}

/** Starts a process that prints one line when it is open, `{"versions": {...}}`, and then one for each that it reads. */
export async function startPeer(command: string, args: string[]): Promise<Peer> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  let printed = ''
  child.stderr.on('data', (chunk: Buffer) => {
    printed = (printed + chunk).slice(-4000)
  })
  // Asked after it died: the missing answer tells.
  child.stdin.on('error', () => {})
  const exited = once(child, 'close')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const read = async () => {
    const { value, done } = await lines.next()
    if (!done) return JSON.parse(value)
    await exited
    throw new Error(printed.trim().split('\n').slice(-3).join('\n') || 'it ended without a word')
  }
  const { versions } = (await read()) as { versions: Versions }
  return {
    versions,
    async ask(request) {
      child.stdin.write(`${JSON.stringify(request)}\n`)
      return (await read()) as PeerAnswer
    },
    async close() {
      child.stdin.end()
      await exited
    },
  }
}
