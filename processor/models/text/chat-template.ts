import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { type Context, createContext, Script } from 'node:vm'
import { z } from 'zod'
import { ModelFolderError } from '../../onnx/weights.ts'
import { readModelJson, readModelText } from '../model-file.ts'

/** Part of a message, as templates of vision-language models take it. */
export type ChatPart = { type: 'image' } | { type: 'text'; text: string }

export interface ChatMessage {
  role: 'system' | 'user'
  content: ChatPart[] | string
}

/** Maximum characters of a template, and of what it writes: many times what public models have. */
const maxTemplate = 200_000
const maxRendered = 2_000_000
/** Time that a template may take, ms; they take less than one. */
const renderMs = 1000

const require = createRequire(import.meta.url)

/**
 * A model folder's chat template. It runs in a context of its own, where it can be interrupted: the language of templates has
 * loops, and a folder comes from outside.
 */
export class ChatTemplate {
  readonly #context: Context
  readonly #file: string
  /** Special tokens by their names in templates, e.g. `bos_token`. */
  readonly #tokens: Record<string, string>

  /** @throws ModelFolderError for a template that cannot be read */
  constructor(file: string, template: string, tokens: Record<string, string> = {}) {
    this.#file = file
    this.#tokens = tokens
    if (template.length > maxTemplate)
      throw new ModelFolderError(`${file}: the chat template has more than ${maxTemplate} characters.`)
    this.#context = createContext({ module: { exports: {} }, template })
    library().runInContext(this.#context)
    this.#run(compile)
  }

  /**
   * Text of a conversation, up to where the answer begins.
   * @throws ModelFolderError for a template that throws, or that takes too long
   */
  render(messages: readonly ChatMessage[]): string {
    const input = { ...this.#tokens, messages, add_generation_prompt: true }
    this.#context.input = JSON.stringify(input)
    const rendered = this.#run(render)
    if (typeof rendered === 'string' && rendered.length <= maxRendered) return rendered
    throw new ModelFolderError(`${this.#file}: the chat template writes more than ${maxRendered} characters.`)
  }

  #run(script: Script): unknown {
    try {
      return script.runInContext(this.#context, { timeout: renderMs })
    } catch (cause) {
      throw new ModelFolderError(`${this.#file}: the chat template ${whatHappened(cause)}`, { cause })
    }
  }
}

const compile = new Script('globalThis.compiled = new module.exports.Template(template); undefined')
const render = new Script('compiled.render(JSON.parse(input))')

/** The library as a script, for contexts. */
let libraryScript: Script | undefined
function library(): Script {
  const file = require.resolve('@huggingface/jinja').replace(/index\.\w+$/, 'index.cjs')
  libraryScript ??= new Script(
    `(function (module, exports) {${readFileSync(file, 'utf8')}\n})(module, module.exports)`,
  )
  return libraryScript
}

function whatHappened(cause: unknown): string {
  const { code, message } = (cause ?? {}) as { code?: unknown; message?: unknown }
  if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return `takes more than ${renderMs} ms.`
  const [line = ''] = String(message ?? cause).split('\n')
  return `fails: ${line.slice(0, 200)}`
}

const tokenSchema = z.union([z.string(), z.looseObject({ content: z.string() })])
const namedSchema = z.array(z.looseObject({ name: z.string(), template: z.string() }))
const templateSchema = z.union([z.string(), namedSchema]).nullish()
const fileSchema = z.looseObject({ chat_template: templateSchema })
const tokenizerSchema = z.looseObject({
  chat_template: templateSchema,
  bos_token: tokenSchema.nullish(),
  eos_token: tokenSchema.nullish(),
  pad_token: tokenSchema.nullish(),
  unk_token: tokenSchema.nullish(),
})

/**
 * Reads a folder's template where it is: chat_template.jinja, chat_template.json, or within processor_config.json or
 * tokenizer_config.json. Undefined without one.
 * @throws ModelFolderError
 */
export async function readChatTemplate(folder: string): Promise<ChatTemplate | undefined> {
  const config = await readModelJson(folder, 'tokenizer_config.json', tokenizerSchema)
  const { bos_token, eos_token, pad_token, unk_token } = config ?? {}
  const named = Object.entries({ bos_token, eos_token, pad_token, unk_token })
  const tokens = Object.fromEntries(
    named.flatMap(([name, token]) =>
      token ? [[name, typeof token === 'string' ? token : token.content]] : [],
    ),
  )
  const text = await readModelText(folder, 'chat_template.jinja')
  if (text !== undefined) return new ChatTemplate(join(folder, 'chat_template.jinja'), text, tokens)
  for (const name of ['chat_template.json', 'processor_config.json', 'tokenizer_config.json']) {
    const read = await readModelJson(folder, name, fileSchema)
    const template = read?.chat_template
    const chosen =
      typeof template === 'string' ? template : template?.find((each) => each.name === 'default')?.template
    if (chosen !== undefined) return new ChatTemplate(join(folder, name), chosen, tokens)
  }
  return undefined
}
