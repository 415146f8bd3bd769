import { z } from '@hono/zod-openapi'
import { type BatchEndpoint, batchEndpoints } from './batch.ts'
import { captionRequestSchema, turbineOptionsSchema } from './caption.ts'
import { readChat } from './chat.ts'
import { excerpt, invalid, TurbineError } from './errors.ts'
import { parseJson } from './json.ts'
import { type ManifestLine, maxLineBytes } from './lines.ts'
import { isImageField } from './lists/image-fields.ts'
import { parse } from './parse.ts'

/** Content of a valid line. */
interface Ask {
  /** An https, `data:` or `s3://` URL; on the command line also a path. */
  imageUrl: string
  model?: string
  prompt?: string
  maxPrune?: number
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
  /** Model of the batch; a line may name it, but no other. */
  model: string
}

type Line = Pick<ManifestLine, 'number' | 'text' | 'unreadable'>

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
export const parseBatchLine = (line: Line, { endpoint, model }: LineOptions) =>
  parseLine(line, { endpoint, model, unnamed: `line-${line.number}` })

/**
 * Reads one line of a manifest of the command line: as `parseBatchLine`, but images may be paths, unknown fields of
 * the short form are ignored, OpenAI's form may name either endpoint, and there is no default `custom_id`.
 */
export const parseLocalLine = (line: Line, { model }: Partial<Pick<LineOptions, 'model'>> = {}) =>
  parseLine(line, { model, unnamed: null })

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
    const ask = isOpenAi(fields) ? readOpenAi(fields, options) : readShort(fields, options)
    if (options.endpoint !== undefined) assertAddress(ask.imageUrl, fields)
    assertModel(ask.model, options)
    return { ask: { customId: id, ...ask } }
  } catch (error) {
    if (!(error instanceof TurbineError)) throw error
    return { fault: { customId, code: error.code, message: error.message, param: error.param } }
  }
}

type Fields = Record<string, unknown>

const tooLong = () =>
  invalid(
    'line_too_long',
    `The line has more than ${maxLineBytes / 2 ** 20} MiB. Send the image's URL instead of its bytes.`,
  )
const notUtf8 = () => invalid('invalid_json_line', 'The line is not in UTF-8.')

const address = /^(?:https?|s3|data):/i

/** Parses the JSON of a line; a bare URL, quoted or not, becomes its `image_url`. */
function readFields(text: string, { endpoint }: Partial<LineOptions>): Fields {
  const isImage = (bare: string) => (endpoint === undefined ? bare !== '' : address.test(bare))
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
const shortSchema = z.strictObject({
  custom_id: unchecked,
  image: unchecked,
  image_url: unchecked,
  model: captionRequestSchema.shape.model.nullable(),
  prompt: captionRequestSchema.shape.prompt.nullable(),
  turbine: turbineOptionsSchema.nullish(),
})
const localSchema = z.object({ ...shortSchema.shape, turbine: turbineOptionsSchema.strip().nullish() })

/** Reads a caption request whose image field may have other names. Null fields count as absent. */
function readShort(fields: Fields, { endpoint }: Partial<LineOptions>): Ask {
  const name = imageField(fields)
  const image = fields.image ?? (isFields(fields.image_url) ? fields.image_url.url : fields.image_url)
  if (image === undefined || image === null) throw noImage()
  if (typeof image !== 'string' || image === '')
    throw invalid(
      image === '' ? 'invalid_value' : 'invalid_type',
      `"${name}" must be the URL of an image.`,
      name,
    )
  const { model, prompt, turbine } = parse(endpoint === undefined ? localSchema : shortSchema, fields)
  return {
    imageUrl: image,
    model: model ?? undefined,
    prompt: prompt ?? undefined,
    maxPrune: turbine?.max_prune,
  }
}

const imageField = (fields: Fields) => ((fields.image ?? undefined) === undefined ? 'image_url' : 'image')

const isOpenAi = (fields: Fields) =>
  ('body' in fields || 'url' in fields) && !('image' in fields || 'image_url' in fields)

const openAiSchema = z.strictObject({
  custom_id: unchecked,
  method: z.literal('POST'),
  url: z.enum(batchEndpoints),
  // Bounded by the line, and validated as a request of its endpoint.
  body: z.looseObject({}),
})

function readOpenAi(fields: Fields, { endpoint }: Partial<LineOptions>): Ask {
  const { url, body } = parseOpenAi(fields)
  if (endpoint !== undefined && url !== endpoint)
    throw invalid('url_mismatch', `"url" must be the batch's endpoint, "${endpoint}".`, 'url')
  try {
    return url === '/v1/captions' ? readCaption(body) : readChatBody(body)
  } catch (error) {
    if (!(error instanceof TurbineError)) throw error
    throw invalid(error.code, error.message, error.param === null ? 'body' : `body.${error.param}`)
  }
}

/** Fields whose invalid values have their own code. */
const ownCodes = new Map([
  ['method', 'method_invalid'],
  ['url', 'url_mismatch'],
])

function parseOpenAi(fields: Fields): z.output<typeof openAiSchema> {
  try {
    return parse(openAiSchema, fields)
  } catch (error) {
    if (!(error instanceof TurbineError) || error.code.startsWith('missing')) throw error
    throw invalid(ownCodes.get(error.param ?? '') ?? error.code, error.message, error.param ?? undefined)
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
  throw invalid('streaming_unsupported', 'Batches do not support streaming. Remove "stream".', 'stream')
}

function assertAddress(url: string, fields: Fields): void {
  if (address.test(url)) return
  const name = imageField(fields)
  throw invalid(
    'image_url_invalid',
    `"${name}" must start with https://, s3:// or data:, got ${excerpt(JSON.stringify(excerpt(url)))}.`,
    name,
  )
}

function assertModel(model: string | undefined, served: Partial<LineOptions>): void {
  if (model === undefined || served.model === undefined || model === served.model) return
  throw invalid(
    'model_mismatch',
    `The line names the model "${excerpt(model)}", but "${served.model}" captions. Remove "model", or caption each model's lines separately.`,
    'model',
  )
}

const noImage = () =>
  invalid('image_missing', 'The line has no image. Add "image_url": "https://..."', 'image_url')
