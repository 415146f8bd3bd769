import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type Context, createContext, Script } from 'node:vm'
import { maxRendered, type Rendered, renderMs, type TemplateRun } from './template-run.ts'

/**
 * Process that runs chat templates, one after the other, so that one that takes all of its memory ends nothing else. It ends with
 * its parent. Templates run in contexts of their own, where they can be interrupted: their language has loops.
 */

// A terminal or a supervisor signals all of its processes; the parent decides what ends.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})

const require = createRequire(import.meta.url)
const file = require.resolve('@huggingface/jinja').replace(/index\.\w+$/, 'index.cjs')
const library = new Script(
  `(function (module, exports) {${readFileSync(file, 'utf8')}\n})(module, module.exports)`,
)
const compile = new Script('globalThis.compiled = new module.exports.Template(template); undefined')
const run = new Script('compiled.render(JSON.parse(input))')

/** Those used last; a process has few models. */
const keptTemplates = 8
const contexts = new Map<string, Context>()

process.on('message', (asked: TemplateRun) => process.send!(render(asked)))

function render({ template, input }: TemplateRun): Rendered {
  try {
    const context = contextOf(template)
    context.input = input
    const text: unknown = run.runInContext(context, { timeout: renderMs })
    if (typeof text === 'string' && text.length <= maxRendered) return { text }
    return { failed: `writes more than ${maxRendered} characters.` }
  } catch (cause) {
    return { failed: whatHappened(cause) }
  }
}

function contextOf(template: string): Context {
  const known = contexts.get(template)
  contexts.delete(template)
  const context = known ?? compiled(template)
  contexts.set(template, context)
  if (contexts.size > keptTemplates) contexts.delete(contexts.keys().next().value!)
  return context
}

function compiled(template: string): Context {
  const context = createContext({ module: { exports: {} }, template })
  library.runInContext(context)
  compile.runInContext(context, { timeout: renderMs })
  return context
}

function whatHappened(cause: unknown): string {
  const { code, message } = (cause ?? {}) as { code?: unknown; message?: unknown }
  if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return `takes more than ${renderMs} ms.`
  const [line = ''] = String(message ?? cause).split('\n')
  return `fails: ${line.slice(0, 200)}`
}
