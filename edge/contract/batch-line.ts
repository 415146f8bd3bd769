import type { BatchEndpoint } from './batch.ts'
import { captionRequestSchema } from './caption.ts'
import { readChat } from './chat.ts'
import { TurbineError } from './errors.ts'
import { parse } from './parse.ts'

/** What a usable line of a batch asks for. */
export interface BatchLine {
  customId: string
  /** An https, `data:` or `s3://` address. */
  imageUrl: string
  model?: string
  prompt?: string
  maxPrune?: number
}

/** Why a line cannot be used. */
export interface LineFault {
  /** The line's own, where it can be read. */
  customId: string | null
  /** E.g. `invalid_json_line`. */
  code: string
  message: string
  param: string | null
}

export interface LineOptions {
  /** Number of the line in the manifest, from 1. */
  line: number
  /** What the batch was created for. */
  endpoint: BatchEndpoint
  /** The batch's model; a line may name it, but no other. */
  model: string
}

/** Bytes of a line at most: an image in base64 and what is around it. */
export const maxLineBytes = 32 * 1024 * 1024
/** Characters of a `custom_id` at most: any object key fits. */
export const maxCustomIdLength = 1024

/**
 * Reads one line of a batch: OpenAI's `{"custom_id", "method", "url", "body"}`, the short
 * `{"image_url": ..., "custom_id": ...}`, or a bare address. Undefined for an empty line. A line without a
 * `custom_id` is called `line-<number>`.
 *
 * @example
 * parseBatchLine('{"custom_id": "a", "image_url": "https://example.com/a.jpg"}', options)
 * // { ask: { customId: 'a', imageUrl: 'https://example.com/a.jpg', ... } }
 */
export function parseBatchLine(
  text: string,
  options: LineOptions,
): { ask: BatchLine } | { fault: LineFault } | undefined {
  // It removes a byte order mark too.
  const trimmed = text.trim()
  if (trimmed === '') return undefined
  let customId: string | null = null
  try {
    const fields = readFields(trimmed)
    customId = readCustomId(fields.custom_id, options.line)
    const ask = 'body' in fields || 'url' in fields ? readOpenAi(fields, options) : readShort(fields)
    assertAddress(ask.imageUrl)
    assertModel(ask.model, options)
    return { ask: { customId, ...ask } }
  } catch (error) {
    if (!(error instanceof TurbineError)) throw error
    return { fault: { customId, code: error.code, message: error.message, param: error.param } }
  }
}

type Fields = Record<string, unknown>
type Ask = Omit<BatchLine, 'customId'>

const refusal = (code: string, message: string, param?: string) =>
  new TurbineError(message, { status: 400, code, param })

const address = /^(?:https?|s3|data):/i

function readFields(text: string): Fields {
  if (address.test(text)) return { image_url: text }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const reason = (cause as SyntaxError).message.slice(0, 200)
    throw refusal('invalid_json_line', `The line is neither JSON nor an image address: ${reason}.`)
  }
  if (isFields(value)) return value
  throw refusal(
    'invalid_json_line',
    'The line is no JSON object. Write {"custom_id": "...", "image_url": "https://..."} or an address alone.',
  )
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function readCustomId(value: unknown, line: number): string {
  if (value === undefined || value === null) return `line-${line}`
  if (typeof value === 'string' && value !== '' && value.length <= maxCustomIdLength) return value
  throw refusal(
    'invalid_custom_id',
    `"custom_id" must be a text of 1 to ${maxCustomIdLength} characters that no other line of the batch has.`,
    'custom_id',
  )
}

/** A caption request with a `custom_id` beside it. */
function readShort({ custom_id, ...request }: Fields): Ask {
  return readCaption(request)
}

const openAiFields = new Set(['custom_id', 'method', 'url', 'body'])

function readOpenAi(fields: Fields, { endpoint }: LineOptions): Ask {
  const unknown = Object.keys(fields).find((name) => !openAiFields.has(name))
  if (unknown !== undefined) throw unknownField(unknown)
  if (fields.method !== 'POST') throw wrongMethod(fields.method)
  if (fields.url !== endpoint) throw wrongUrl(fields.url, endpoint)
  if (!isFields(fields.body)) throw wrongBody(fields.body)
  try {
    return endpoint === '/v1/captions' ? readCaption(fields.body) : readChatBody(fields.body)
  } catch (error) {
    if (!(error instanceof TurbineError)) throw error
    throw refusal(error.code, error.message, error.param === null ? 'body' : `body.${error.param}`)
  }
}

function readCaption(request: Fields): Ask {
  if (request.image_url === undefined) throw noImage()
  const { image_url, model, prompt, turbine } = parse(captionRequestSchema, request)
  return { imageUrl: image_url, model, prompt, maxPrune: turbine?.max_prune }
}

function readChatBody(body: Fields): Ask {
  const { imageUrl, model, prompt, maxPrune, stream } = readChat(body)
  if (!stream) return { imageUrl, model, prompt, maxPrune }
  throw refusal('streaming_unsupported', 'A batch does not stream. Leave "stream" out.', 'stream')
}

function assertAddress(url: string): void {
  if (address.test(url)) return
  throw refusal(
    'image_url_invalid',
    `"image_url" must start with https://, s3:// or data:, but ${JSON.stringify(url.slice(0, 80))} came.`,
    'image_url',
  )
}

function assertModel(model: string | undefined, batch: LineOptions): void {
  if (model === undefined || model === batch.model) return
  throw refusal(
    'model_mismatch',
    `The line names the model "${model.slice(0, 80)}", but the batch is for "${batch.model}". Leave "model" out, or make a batch for each model.`,
    'model',
  )
}

const noImage = () =>
  refusal('image_missing', 'The line has no image. Add "image_url": "https://..."', 'image_url')

const unknownField = (name: string) =>
  refusal(
    'unknown_parameter',
    `There is no field "${name.slice(0, 80)}". Allowed are custom_id, method, url, body.`,
    name.slice(0, 80),
  )

const missing = (field: string, allowed: string) =>
  refusal('missing_required_parameter', `"${field}" is missing. It must be ${allowed}.`, field)

const wrongMethod = (method: unknown) =>
  method === undefined
    ? missing('method', '"POST"')
    : refusal('method_invalid', '"method" must be "POST".', 'method')

const wrongUrl = (url: unknown, endpoint: BatchEndpoint) =>
  url === undefined
    ? missing('url', `"${endpoint}"`)
    : refusal('url_mismatch', `"url" must be the batch's endpoint, "${endpoint}".`, 'url')

const wrongBody = (body: unknown) =>
  body === undefined
    ? missing('body', 'the request')
    : refusal('invalid_type', '"body" must be an object.', 'body')
