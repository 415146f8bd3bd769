import { z } from '@hono/zod-openapi'
import { imageAddress } from '../../infra/fetch/image-address.ts'
import { type Asked, type Fitted, fitAsk } from './ask.ts'
import { type BatchEndpoint, batchEndpoints, type LineReading } from './batch.ts'
import { captionEnd, captionRequestSchema, turbineOptionsSchema } from './caption.ts'
import { readChat } from './chat.ts'
import { readImageField } from './content.ts'
import { excerpt, invalid, TurbineError } from './errors.ts'
import { generationFields, generationIn } from './generation.ts'
import { parseJson } from './json.ts'
import { type ManifestLine, maxLineBytes } from './lines.ts'
import { isImageField } from './lists/image-fields.ts'
import { blipCapabilities, modelOf } from './model.ts'
import { type Ignored, withoutNulls, withoutUnknown } from './parameters.ts'
import { parse } from './parse.ts'

/** Content of a valid line. */
interface LineAsk extends Asked {
  /** As the line names it: it can be an alias. */
  model?: string
  maxPrune?: number
}

/** Content of a valid line, as its model makes a caption of it. */
interface Ask extends Omit<Fitted, 'ignored'> {
  /** https, `data:` or `s3://` URLs; on the command line also paths. */
  imageUrls: readonly [string, ...string[]]
  model?: string
  maxPrune?: number
  /** Parameters that were ignored; absent: none. */
  ignored?: string[]
}

export interface BatchLine extends Ask {
  customId: string
}

export interface LocalLine extends Ask {
  customId: string | null
}

/** Error of an invalid line. */
export interface LineFault {
  /** From the line, if readable. */
  customId: string | null
  /** E.g. `invalid_json_line`. */
  code: string
  message: string
  param: string | null
}

export interface LineOptions {
  endpoint: BatchEndpoint
  /** Model of the batch; a line may name it or its aliases, but no other. */
  model: string
  reading?: LineReading
}

type Line = Pick<ManifestLine, 'number' | 'text' | 'unreadable'>

/** Forms of a line, for the docs. */
export const lineForms = [
  '{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}]}]}}',
  '{"custom_id": "b", "method": "POST", "url": "/v1/captions", "body": {"image_url": "s3://photos/b.jpg"}}',
  '{"custom_id": "c", "image_url": "https://example.com/c.jpg", "prompt": "a photo of", "max_tokens": 9, "turbine": {"max_prune": 0}}',
  '{"image_url": {"url": "https://example.com/d.jpg", "detail": "high"}}',
  '{"custom_id": 5, "image": "https://example.com/e.jpg"}',
  '{"custom_id": 6, "url": "https://example.com/f.jpg"}',
  '"https://example.com/g.jpg"',
  'https://example.com/h.jpg',
]

/** Maximum characters of a `custom_id`: any object key fits. */
export const maxCustomIdLength = 1024

/**
 * Reads one line of a batch: OpenAI's `{"custom_id", "method", "url", "body"}`, the short
 * `{"image_url": ..., "custom_id": ...}`, or a bare URL. Undefined for an empty line. The default `custom_id` is
 * `line-<number>`.
 *
 * @example
 * parseBatchLine({ number: 1, text: '{"custom_id": "a", "image_url": "https://example.com/a.jpg"}' }, options)
 * // { ask: { customId: 'a', imageUrl: 'https://example.com/a.jpg', ... } }
 */
export const parseBatchLine = (line: Line, { endpoint, model, reading }: LineOptions) =>
  parseLine(line, { endpoint, model, reading, unnamed: `line-${line.number}` })

/**
 * Reads one line of a manifest of the command line: as `parseBatchLine`, but images may be paths, unknown fields of
 * the short form are ignored, OpenAI's form may name either endpoint, and there is no default `custom_id`.
 */
export const parseLocalLine = (
  line: Line,
  { model, reading }: Partial<Pick<LineOptions, 'model' | 'reading'>> = {},
) => parseLine(line, { model, reading, unnamed: null })

/** Without `endpoint` for lines of the command line. */
interface ParseOptions<Unnamed> extends Partial<LineOptions> {
  /** Default `custom_id`. */
  unnamed: Unnamed
}

function parseLine<Unnamed extends string | null>(
  { text, unreadable }: Line,
  options: ParseOptions<Unnamed>,
): { ask: Ask & { customId: string | Unnamed } } | { fault: LineFault } | undefined {
  // Also removes a carriage return and a byte order mark.
  const trimmed = text?.trim()
  if (trimmed === '') return undefined
  let customId: string | null = null
  try {
    if (trimmed === undefined) throw unreadable === 'too_long' ? tooLong() : notUtf8()
    const fields = withImage(readFields(trimmed, options))
    const id = readCustomId(fields.custom_id, options.unnamed)
    customId = id
    const openAi = isOpenAi(fields)
    const ask = openAi ? readOpenAi(fields, options) : readShort(fields, options)
    if (options.endpoint !== undefined)
      for (const url of ask.imageUrls) assertAddress(url, openAi ? 'image_url' : imageField(fields))
    assertModel(ask.model, options)
    return { ask: { customId: id, ...fitted(ask, options, openAi ? 'body.' : '') } }
  } catch (error) {
    if (!(error instanceof TurbineError)) throw error
    return { fault: { customId, code: error.code, message: error.message, param: error.param } }
  }
}

/**
 * What the model of the line makes of it.
 * @param at where its fields are, for errors
 */
function fitted(ask: LineAsk, { model: id = '', reading = {} }: Partial<LineOptions>, at: string): Ask {
  const { model, maxPrune, ...asked } = ask
  const [first, ...others] = asked.imageUrls
  const { ignored, ...fit } = within(at, () =>
    fitAsk(asked, { id, can: reading.can ?? blipCapabilities }, reading),
  )
  return {
    imageUrls: [first!, ...others],
    ...(model !== undefined && { model }),
    ...(maxPrune !== undefined && { maxPrune }),
    ...fit,
    ...(ignored.length > 0 && { ignored }),
  }
}

/** @throws the error of what is read, whose field is at this place */
function within<T>(at: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof TurbineError) || at === '') throw error
    throw invalid(error.code, error.message, error.param === null ? at.slice(0, -1) : `${at}${error.param}`)
  }
}

type Fields = Record<string, unknown>

const tooLong = () =>
  invalid(
    'line_too_long',
    `The line has more than ${maxLineBytes / 2 ** 20} MiB. Send the image's URL instead of its bytes.`,
  )
const notUtf8 = () => invalid('invalid_json_line', 'The line is not in UTF-8. Save the list as UTF-8.')

const address = /^(?:https?|s3|data):/i

/** Parses the JSON of a line; a bare URL, quoted or not, becomes its `image_url`. */
function readFields(text: string, { endpoint }: Partial<LineOptions>): Fields {
  const isImage = (bare: string) => (endpoint === undefined ? bare !== '' : address.test(imageAddress(bare)))
  if (!/^[{["]/.test(text)) {
    // Not in any path or URL, but in UTF-16.
    if (text.includes('\0')) throw notUtf8()
    if (isImage(text)) return { image_url: text }
  }
  let value: unknown
  try {
    value = parseJson(text)
  } catch (cause) {
    if (cause instanceof TurbineError) throw cause
    const reason = excerpt((cause as SyntaxError).message, 200)
    throw invalid('invalid_json_line', `The line is neither JSON nor an image URL: ${reason}.`)
  }
  if (isFields(value)) return value
  if (typeof value === 'string' && isImage(value)) return { image_url: value }
  throw invalid(
    'invalid_json_line',
    'The line is not a JSON object. Send {"custom_id": "...", "image_url": "https://..."} or a bare URL.',
  )
}

/** Takes the image from where tables and data sets have it: `file_name`, `path`, `{"image": {"path": ...}}`. */
function withImage(fields: Fields): Fields {
  if (isFields(fields.image) && typeof fields.image.path === 'string' && !('url' in fields.image))
    return { ...fields, image: fields.image.path }
  if ('image' in fields || 'image_url' in fields || 'url' in fields || 'body' in fields) return fields
  const name = Object.keys(fields).find((field) => isImageField(field) && typeof fields[field] === 'string')
  if (name === undefined) return fields
  const { [name]: image, ...others } = fields
  return { ...others, image }
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function readCustomId<Unnamed>(value: unknown, unnamed: Unnamed): string | Unnamed {
  if (value === undefined || value === null) return unnamed
  const id = Number.isSafeInteger(value) ? String(value) : value
  if (typeof id === 'string' && id !== '' && id.length <= maxCustomIdLength) return id
  throw invalid(
    'invalid_custom_id',
    `"custom_id" must be a unique string of 1 to ${maxCustomIdLength} characters, or an integer below 2^53.`,
    'custom_id',
  )
}

const unchecked = z.unknown().optional()
/** Fields that the image of a line can be in; the first that is there holds it. */
const imageFields = ['image', 'image_url', 'url'] as const
const { model, prompt, max_tokens, stop } = captionRequestSchema.shape
const shortSchema = z.strictObject({
  custom_id: unchecked,
  image: unchecked,
  image_url: unchecked,
  url: unchecked,
  model: model.nullable(),
  prompt: prompt.nullable(),
  max_tokens,
  stop,
  ...generationFields,
  turbine: turbineOptionsSchema.nullish(),
})
const shortFields = Object.keys(shortSchema.shape)
const localSchema = z.object({ ...shortSchema.shape, turbine: turbineOptionsSchema.strip().nullish() })

/** Reads a caption request whose image field may have other names. Null fields count as absent. */
function readShort(line: Fields, { endpoint, reading }: Partial<LineOptions>): LineAsk {
  const name = imageField(line)
  if ((line[name] ?? undefined) === undefined) throw noImage(line)
  const image = readImageField(line[name], name)
  const { fields, dropped } = withoutUnknown(line, reading?.ignored ?? [], shortFields)
  const request = parse(endpoint === undefined ? localSchema : shortSchema, fields)
  assertNoDeadline(request.turbine?.deadline_ms, 'turbine.deadline_ms')
  return {
    imageUrls: [image.url],
    model: request.model ?? undefined,
    prompt: request.prompt ?? undefined,
    task: request.turbine?.task,
    maxPixels: request.turbine?.max_pixels,
    enoughPixels: image.enoughPixels,
    generation: generationIn(request),
    maxPrune: request.turbine?.max_prune ?? image.maxPrune,
    ...captionEnd([request.max_tokens], request.stop),
    ignored: [...dropped, ...image.unused],
  }
}

const imageField = (fields: Fields) =>
  imageFields.find((name) => (fields[name] ?? undefined) !== undefined) ?? 'image_url'

/** A deadline is for a caller who waits. */
function assertNoDeadline(deadlineMs: number | undefined, param: string): void {
  if (deadlineMs === undefined) return
  throw invalid(
    'unsupported_parameter',
    `"${param}" is not supported in lines: nobody waits for one alone. Leave it out; a batch has its "completion_window".`,
    param,
  )
}

/** `url` is an endpoint there, and the address of an image otherwise. */
const isOpenAi = (fields: Fields) => {
  if ('image' in fields || 'image_url' in fields) return false
  return 'body' in fields || 'method' in fields || endpointOf(fields.url) !== undefined
}

const openAiSchema = z.strictObject({
  custom_id: unchecked,
  method: unchecked,
  url: unchecked,
  // Bounded by the line, and validated as a request of its endpoint.
  body: z.looseObject({}),
})
const openAiFields = Object.keys(openAiSchema.shape)

const endpointPath =
  /^(?:https?:\/\/[^?#]{1,300}?)?\/?(v1\/(?:chat\/completions|captions|responses|completions|embeddings|moderations))\/?$/i

/** The path of an endpoint of OpenAI's or of this service, also in a whole address or without its first slash. */
function endpointOf(url: unknown): string | undefined {
  const [, path] = endpointPath.exec(typeof url === 'string' ? url : '') ?? []
  return path && `/${path.toLowerCase()}`
}

function readOpenAi(line: Fields, { endpoint, reading }: Partial<LineOptions>): LineAsk {
  const ignored = reading?.ignored ?? []
  const { fields, dropped } = withoutUnknown(line, ignored, openAiFields)
  const { url, method, body } = parse(openAiSchema, fields)
  assertMethod(method)
  const asked = assertEndpoint(url, body, endpoint)
  const read = asked === '/v1/captions' ? readCaption : readChatBody
  const ask = within('body.', () => read(body, ignored))
  return { ...ask, ignored: [...dropped, ...(ask.ignored ?? [])] }
}

function assertMethod(method: unknown): void {
  if (method === undefined || method === null || /^post$/i.test(String(method))) return
  const got = typeof method === 'string' ? `, got ${JSON.stringify(excerpt(method, 20))}` : ''
  throw invalid('method_invalid', `"method" must be "POST"${got}.`, 'method')
}

/** The endpoint of a line: that of its batch, which it need not name, or on the command line the one that its body fits. */
function assertEndpoint(url: unknown, body: Fields, endpoint: BatchEndpoint | undefined): BatchEndpoint {
  const fitting = 'messages' in body ? '/v1/chat/completions' : '/v1/captions'
  const asked = url === undefined || url === null ? (endpoint ?? fitting) : endpointOf(url)
  const allowed: readonly string[] = endpoint === undefined ? batchEndpoints : [endpoint]
  if (asked !== undefined && allowed.includes(asked)) return asked as BatchEndpoint
  const message =
    endpoint === undefined
      ? `"url" must be one of ${batchEndpoints.map((each) => `"${each}"`).join(', ')}.`
      : `"url" must be the batch's endpoint, "${endpoint}".`
  throw invalid('url_mismatch', message, 'url')
}

const captionFields = Object.keys(captionRequestSchema.shape)

function readCaption(body: Fields, ignored: Ignored): LineAsk {
  if ((body.image_url ?? undefined) === undefined) throw noImage(body)
  const { fields, dropped } = withoutUnknown(withoutNulls(body), ignored, captionFields)
  const { image_url, model, prompt, turbine, max_tokens, stop, ...others } = parse(
    captionRequestSchema,
    fields,
  )
  assertNoDeadline(turbine?.deadline_ms, 'turbine.deadline_ms')
  const image = readImageField(image_url, 'image_url')
  return {
    imageUrls: [image.url],
    model,
    prompt,
    task: turbine?.task,
    maxPixels: turbine?.max_pixels,
    enoughPixels: image.enoughPixels,
    generation: generationIn(others),
    maxPrune: turbine?.max_prune ?? image.maxPrune,
    ...captionEnd([max_tokens], stop),
    ignored: dropped,
  }
}

function readChatBody(body: Fields, ignored: Ignored): LineAsk {
  const { stream, includeUsage, deadlineMs, ...ask } = readChat(body, ignored)
  assertNoDeadline(deadlineMs, 'turbine.deadline_ms')
  if (!stream) return ask
  throw invalid('streaming_unsupported', 'Batches do not support streaming. Remove "stream".', 'stream')
}

function assertAddress(url: string, name: string): void {
  if (address.test(url)) return
  throw invalid(
    'image_url_invalid',
    `"${name}" must start with https://, http://, s3:// or data:, got ${excerpt(JSON.stringify(excerpt(url)))}.`,
    name,
  )
}

function assertModel(model: string | undefined, served: Partial<LineOptions>): void {
  if (model === undefined || served.model === undefined || model === served.model) return
  if (modelOf(model, served.reading?.aliases) === served.model) return
  throw invalid(
    'model_mismatch',
    `The line names the model "${excerpt(model)}", but "${served.model}" captions. Remove "model", or caption the lines of each model by themselves, with its name as the batch's "model".`,
    'model',
  )
}

function noImage(fields: Fields): TurbineError {
  const hint = 'messages' in fields ? ' A chat goes into "body".' : ''
  return invalid('image_missing', `The line has no image.${hint} Add "image_url": "https://..."`, 'image_url')
}
