import { z } from '@hono/zod-openapi'
import { excerpt, invalid } from './errors.ts'
import { type GenerationName, generationParameters } from './generation.ts'

/** Parameter of a chat request that the service knows. */
interface Parameter {
  /** What it does here, or why it cannot be done; for the docs and for the error. */
  says: string
  /** Where it is not honoured: the values that ask for what is done anyway. `null` always does. */
  same?: { schema: z.ZodType; words: string }
  /** Any value that is well-formed; default: those of `same`. */
  form?: z.ZodType
  /** Usual clients send it unasked, so that it is ignored by default where it is not honoured. */
  unasked?: true
  /** It is honoured by some of the models: those that name it. */
  byModel?: true
}

const honoured = (says: string): Parameter => ({ says })

const fixed = (words: string, schema: z.ZodType, says: string, form?: z.ZodType): Parameter => ({
  says,
  same: { schema, words },
  ...(form && { form, unasked: true as const }),
})

const byModel = (name: GenerationName, more: Pick<Parameter, 'unasked'> = {}): Parameter => {
  const { says, same, form } = generationParameters[name]
  return { says, same, form, byModel: true, ...more }
}

const unbiased = 'Words are chosen by their probability alone.'
const words = 'A caption is made of words alone.'
const noTools = 'A captioner calls no tools.'
const unstored = 'Chats are not stored for later retrieval.'
const nothingElse = z.null()
const label = z.string().max(1024)

/**
 * Every parameter of a chat request: those that are honoured, whose forms `chatRequestSchema` has, and those that are not.
 * Of the latter a value that asks for what is done anyway is accepted, and any other is refused, or ignored where the
 * service is set to (`TURBINE_IGNORE_PARAMETERS`), which the response tells. Validation, the OpenAPI document and the table
 * in infra/docs/accepted.md come from here.
 */
export const chatParameters: Readonly<Record<string, Parameter>> = {
  model: honoured('A model of `GET /v1/models`, or an alias of one. Default: the served model.'),
  messages: honoured(
    'Images, and the text of system and user messages, for models that follow it (`turbine.follows_text`). A last message of the assistant is the beginning of the caption.',
  ),
  max_tokens: honoured("Maximum tokens of the caption, beside the model's own maximum."),
  max_completion_tokens: honoured('The same; with both, the lesser one holds.'),
  stop: honoured('Up to 4 texts; the caption ends before the first one that it comes to.'),
  stream: honoured(
    'The caption comes as it grows, from models that make long text; from others as one chunk.',
  ),
  stream_options: honoured('`include_usage`; with `stream` only.'),
  turbine: honoured('`max_prune`, `deadline_ms`, `task` and `max_pixels`.'),

  n: byModel('n'),
  temperature: byModel('temperature', { unasked: true }),
  top_p: byModel('top_p', { unasked: true }),
  seed: byModel('seed'),
  frequency_penalty: byModel('frequency_penalty'),
  presence_penalty: byModel('presence_penalty'),
  logit_bias: fixed('{}', z.strictObject({}), unbiased),
  logprobs: fixed('false', z.literal(false), 'Probabilities are not given out.'),
  top_logprobs: fixed('0', z.literal(0), 'Probabilities are not given out.'),
  response_format: fixed('{"type": "text"}', z.strictObject({ type: z.literal('text') }), words),
  modalities: fixed('["text"]', z.array(z.literal('text')).max(1), words),
  audio: fixed('null', nothingElse, words),
  tools: fixed('[]', z.array(z.unknown()).max(0), noTools),
  tool_choice: fixed('"none" or "auto"', z.enum(['none', 'auto']), noTools),
  parallel_tool_calls: fixed('true or false', z.boolean(), noTools),
  functions: fixed('[]', z.array(z.unknown()).max(0), noTools),
  function_call: fixed('"none" or "auto"', z.enum(['none', 'auto']), noTools),
  web_search_options: fixed('null', nothingElse, noTools),
  reasoning_effort: fixed('"none"', z.literal('none'), 'A captioner does not reason.'),
  verbosity: fixed('"medium"', z.literal('medium'), 'Captions are as long as the model makes them.'),
  prediction: fixed('null', nothingElse, 'Captions are too short to be predicted.'),
  store: fixed('false', z.literal(false), unstored),
  metadata: fixed('{}', z.strictObject({}), unstored),
  service_tier: fixed('"auto" or "default"', z.enum(['auto', 'default']), 'There is one tier.'),
  user: fixed('null', nothingElse, 'Callers are known by their API keys.', label),
  safety_identifier: fixed('null', nothingElse, 'Callers are known by their API keys.', label),
  prompt_cache_key: fixed('null', nothingElse, 'There is no cache of prompts.', label),
  prompt_cache_retention: fixed('null', nothingElse, 'There is no cache of prompts.'),
  prompt_cache_options: fixed('null', nothingElse, 'There is no cache of prompts.'),
  moderation: fixed('null', nothingElse, 'Nothing is moderated.'),

  // Of other servers with this API.
  top_k: byModel('top_k'),
  min_p: fixed('0', z.literal(0), 'Words are sampled by `top_p` and `top_k`.'),
  repetition_penalty: byModel('repetition_penalty'),
  no_repeat_ngram_size: byModel('no_repeat_ngram_size'),
  num_beams: byModel('num_beams'),
  length_penalty: fixed('1', z.literal(1), 'Beams are compared by the mean of their words.'),
  best_of: fixed('1', z.literal(1), 'Every caption that is made is given out.'),
  use_beam_search: fixed('false', z.literal(false), '`num_beams` asks for it.'),
  min_tokens: byModel('min_tokens'),
  ignore_eos: fixed('false', z.literal(false), 'A caption ends where the model ends it.'),
  echo: fixed('false', z.literal(false), 'The response has the caption alone.'),
  skip_special_tokens: fixed('true', z.literal(true), words),
}

/** Parameters that are ignored unless the service is set otherwise, where they are not honoured. */
export const ignoredByDefault = Object.keys(chatParameters).filter((name) => chatParameters[name]!.unasked)

/** In a way that JSON Schema understands, of whatever type the schema is. */
const orNull = (schema: z.ZodType) =>
  (schema === nothingElse ? schema : z.union([schema, z.null()])).optional()

/** Schemas of the parameters that no model honours, for the request's schema. */
export const fixedParameters: Record<string, z.ZodType> = Object.fromEntries(
  Object.entries(chatParameters).flatMap(([name, { says, same, form, byModel }]) =>
    same && !byModel ? [[name, orNull(form ?? same.schema).openapi({ description: says })]] : [],
  ),
)

type Fields = Record<string, unknown>

/** Parameters that a service drops, by name; `*` stands for all that it does not honour. */
export type Ignored = readonly string[]

export const ignores = (ignored: Ignored, name: string) => ignored.includes(name) || ignored.includes('*')

/**
 * Checks the parameters of a chat request that no model honours. Those that some do are left for `fitAsk`.
 * @returns the other parameters, not yet validated, and the names of those that were ignored
 * @throws TurbineError `unsupported_parameter`
 * @example readParameters({ messages, temperature: 0.7 }, ['temperature']) // { fields: { messages }, dropped: ['temperature'] }
 */
export function readParameters(body: Fields, ignored: Ignored): { fields: Fields; dropped: string[] } {
  return without(body, (name, value) => {
    const known = Object.hasOwn(chatParameters, name) ? chatParameters[name]! : undefined
    if (!known) return ignores(ignored, name) ? 'drop' : 'keep'
    const { same, form, says, byModel } = known
    const isFine =
      !same || byModel || value === null || value === undefined || same.schema.safeParse(value).success
    // The request's schema refuses what is malformed.
    if (isFine || (form && !form.safeParse(value).success)) return 'keep'
    if (ignores(ignored, name)) return 'drop'
    throw unsupported(name, `${says} Leave it out, or send ${same.words}`)
  })
}

/**
 * Drops the fields of a request that are not known and that the service ignores; the request's schema refuses others.
 * @example withoutUnknown({ image_url: url, width: 640 }, ['width'], ['image_url'])
 */
export const withoutUnknown = (body: Fields, ignored: Ignored, known: readonly string[]) =>
  without(body, (name) => (!known.includes(name) && ignores(ignored, name) ? 'drop' : 'keep'))

/** The fields that are there: as in a chat, null is left out. */
export const withoutNulls = (fields: Fields): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null))

function without(
  body: Fields,
  decide: (name: string, value: unknown) => 'keep' | 'drop',
): { fields: Fields; dropped: string[] } {
  const dropped = new Set(Object.keys(body).filter((name) => decide(name, body[name]) === 'drop'))
  if (dropped.size === 0) return { fields: body, dropped: [] }
  return {
    fields: Object.fromEntries(Object.entries(body).filter(([name]) => !dropped.has(name))),
    dropped: toldNames([...dropped]),
  }
}

/** Ignored parameters that a response names. */
const maxTold = 20

export const toldNames = (ignored: readonly string[]): string[] =>
  ignored.slice(0, maxTold).map((name) => excerpt(name, 60).toWellFormed())

/** What cannot be done, and how an operator lets it be ignored. */
export const unsupported = (name: string, why: string) =>
  invalid(
    'unsupported_parameter',
    `"${name}" is not supported: ${lowerFirst(why)}; or ask the operator to set TURBINE_IGNORE_PARAMETERS=${name}.`,
    name,
  )

const lowerFirst = (text: string) => text.charAt(0).toLowerCase() + text.slice(1)

/** Response header that names the parameters that were ignored. */
export const ignoredHeader = 'x-turbine-ignored-parameters'

/** Longer headers are refused by proxies. */
const maxHeaderCharacters = 1000

/** The value of that header, in ASCII. */
export const ignoredNames = (ignored: readonly string[]): string =>
  ignored
    .map(encodeURIComponent)
    .reduce((text, name) => (text.length + name.length > maxHeaderCharacters ? text : `${text}, ${name}`))
