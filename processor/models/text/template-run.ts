import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** A template, and what it writes out, as JSON. */
export interface TemplateRun {
  template: string
  input: string
}

/** What a template wrote, or what became of it: the end of a sentence. */
export type Rendered = { text: string } | { failed: string }

/** Maximum characters that a template writes: many times what public models' do. */
export const maxRendered = 2_000_000
/** Time that a template may take, ms; they take less than one. */
export const renderMs = 1000
/** Memory of the process that runs them, MB; one takes less than one. */
const heapMb = 64
/** A process that says nothing for so long is ended, ms: it starts, and ends a template by itself, in less. */
const silentMs = 30_000

const program = fileURLToPath(new URL('./template-process.ts', import.meta.url))
const flags = [
  '--max-semi-space-size=4',
  `--max-old-space-size=${heapMb}`,
  '--disable-warning=ExperimentalWarning',
]

let child: ChildProcess | undefined
/** Templates run one after the other: one that ends the process ends no other. */
let last: Promise<unknown> = Promise.resolve()

/** Runs a template in a process of its own, which all models share and which stays; it never holds up this one. */
export function runTemplate(asked: TemplateRun): Promise<Rendered> {
  const rendered = last.then(() => runOnce(asked))
  last = rendered
  return rendered
}

function runOnce(asked: TemplateRun): Promise<Rendered> {
  const running = child ?? start()
  running.ref()
  running.channel?.ref()
  return new Promise<Rendered>((resolve) => {
    const settle = (rendered: Rendered) => {
      clearTimeout(limit)
      running.off('message', settle)
      running.off('error', onError)
      running.off('exit', onExit)
      running.unref()
      running.channel?.unref()
      resolve(rendered)
    }
    const end = (failed: string) => {
      if (child === running) child = undefined
      running.kill('SIGKILL')
      settle({ failed })
    }
    const onExit = () => end(`takes more than ${heapMb} MB.`)
    const onError = (error: Error) => end(`cannot be run: ${error.message}.`)
    const limit = setTimeout(() => end(`takes more than ${renderMs} ms.`), silentMs)
    running.on('message', settle)
    running.on('error', onError)
    running.on('exit', onExit)
    // A process that is gone says so by its end.
    running.send(asked, () => {})
  })
}

/** Without the service's environment: a template needs no secrets. */
function start(): ChildProcess {
  const started = fork(program, {
    execArgv: flags,
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
  child = started
  started.on('exit', () => {
    if (child === started) child = undefined
  })
  started.on('error', () => {})
  return started
}
