import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../../onnx/weights.ts'
import { readModelJson, readModelText } from '../model-file.ts'
import { runTemplate } from './template-run.ts'

/** Part of a message, as templates of vision-language models take it. */
export type ChatPart = { type: 'image' } | { type: 'text'; text: string }

export interface ChatMessage {
  role: 'system' | 'user'
  content: ChatPart[] | string
}

/** Maximum characters of a template: many times what public models have. */
const maxTemplate = 200_000

/** A model folder's chat template. It runs in a process of its own, with limits of time and memory: a folder comes from outside. */
export class ChatTemplate {
  readonly #file: string
  readonly #template: string
  /** Special tokens by their names in templates, e.g. `bos_token`. */
  readonly #tokens: Record<string, string>

  /** @throws ModelFolderError for a template of more characters than one has */
  constructor(file: string, template: string, tokens: Record<string, string> = {}) {
    this.#file = file
    this.#template = template
    this.#tokens = tokens
    if (template.length > maxTemplate)
      throw new ModelFolderError(`${file}: the chat template has more than ${maxTemplate} characters.`)
  }

  /**
   * Text of a conversation, up to where the answer begins.
   * @throws ModelFolderError for a template that throws, or that takes too much
   */
  async render(messages: readonly ChatMessage[]): Promise<string> {
    const input = JSON.stringify({ ...this.#tokens, messages, add_generation_prompt: true })
    const rendered = await runTemplate({ template: this.#template, input })
    if ('text' in rendered) return rendered.text
    throw new ModelFolderError(`${this.#file}: the chat template ${rendered.failed}`)
  }
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
