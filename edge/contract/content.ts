import { imageAddress } from '../../infra/fetch/image-address.ts'
import { type ImageDetail, imageDetails } from './caption.ts'
import { excerpt, invalid } from './errors.ts'

/** Image of a message. */
export interface ContentImage {
  url: string
  /** Maximum share of its tokens that may be merged; absent: any. */
  maxPrune?: number
  /** Pixels that are enough of it, for a model that sees it in more than one size; absent: as many as it sees. */
  enoughPixels?: number
  /** Fields beside it that say nothing here. */
  unused: string[]
}

/** Content of a message. */
export interface Content {
  text: string
  images: ContentImage[]
  /** Fields that say nothing here. */
  unused: string[]
}

type Fields = Record<string, unknown>

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** An image part as OpenAI has it; errors show it. */
export const imagePartExample = '{"type": "image_url", "image_url": {"url": "https://..."}}'

const textTypes = ['text', 'input_text', 'output_text']
const imageTypes = ['image_url', 'input_image', 'image']

/** Forms of an image part, for the docs. */
export const imagePartForms = [
  imagePartExample,
  '{"type": "image_url", "image_url": "https://..."}',
  '{"type": "input_image", "image_url": "https://..."}',
  '{"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "..."}}',
  '{"type": "image", "source": {"type": "url", "url": "https://..."}}',
  '{"type": "image", "image": "https://..."}',
  '{"type": "image", "url": "https://..."}',
  '{"image_url": {"url": "https://..."}}',
]

/**
 * Reads the content of a message: text, a part, or a list of them, in the forms of OpenAI's chats and responses, of
 * Anthropic's messages and of Hugging Face's templates.
 * @param at name of the content in errors
 * @throws TurbineError `missing_required_parameter`, `invalid_type`, `invalid_value`: they name the part that was meant
 */
export function readContent(content: unknown, at: string): Content {
  if (Array.isArray(content)) return join(content.map((part, index) => readPart(part, `${at}.${index}`)))
  return content === undefined || content === null ? nothing : readPart(content, at)
}

const nothing: Content = { text: '', images: [], unused: [] }

const join = (contents: Content[]): Content => ({
  text: contents.map(({ text }) => text).join(''),
  images: contents.flatMap(({ images }) => images),
  unused: contents.flatMap(({ unused }) => unused),
})

function readPart(part: unknown, at: string): Content {
  if (typeof part === 'string') return { ...nothing, text: part }
  if (!isFields(part))
    throw invalid(
      'invalid_type',
      `"${at}" must be a part like {"type": "text", "text": "..."} or ${imagePartExample}.`,
      at,
    )
  const { type = guessed(part) } = part
  if (textTypes.includes(type as string)) {
    return { ...nothing, text: readText(part, at), unused: fieldsBeside(textFields, part, at) }
  }
  if (imageTypes.includes(type as string)) {
    const image = readImage(part, at)
    return { ...nothing, images: [image], unused: image.unused }
  }
  // What an assistant said earlier.
  if (type === 'refusal') return nothing
  if (type === undefined)
    throw invalid(
      'missing_required_parameter',
      `"${at}.type" is missing. An image is ${imagePartExample}.`,
      `${at}.type`,
    )
  const got = typeof type === 'string' ? `, got ${JSON.stringify(excerpt(type, 40))}` : ''
  throw invalid(
    'invalid_value',
    `"${at}.type" must be "text" or "image_url"${got}. An image is ${imagePartExample}.`,
    `${at}.type`,
  )
}

/** Fields of a text, and of an image, that are used, or say what it is. */
const textFields = ['type', 'text']
const describedImage = ['type', 'source_type', 'media_type', 'mime_type', 'mediaType', 'mimeType', 'detail']

/**
 * The other fields of an object, for the caller to know that nothing came of them. Null fields count as absent.
 * @param at name of the object in errors
 */
export const fieldsBeside = (known: readonly string[], fields: Fields, at: string): string[] =>
  Object.keys(fields)
    .filter((name) => !known.includes(name) && (fields[name] ?? undefined) !== undefined)
    .map((name) => `${at}.${name}`)

/** The type of a part without one, where its fields say it. */
function guessed(part: Fields): string | undefined {
  if ('image_url' in part || 'image' in part || 'source' in part) return 'image_url'
  return 'text' in part ? 'text' : undefined
}

function readText({ text }: Fields, at: string): string {
  if (typeof text === 'string') return text
  throw invalid(
    text === undefined ? 'missing_required_parameter' : 'invalid_type',
    `"${at}.text" ${text === undefined ? 'is missing. It must be' : 'must be'} a string.`,
    `${at}.text`,
  )
}

/** Fields that an image can be in, in the order in which they are looked for. */
const imageFields = ['image_url', 'source', 'image', 'url', 'data', 'base64'] as const

function readImage(part: Fields, at: string): ContentImage {
  const name = imageFields.find((field) => part[field] !== undefined && part[field] !== null)
  if (name === undefined) {
    const hint = 'file_id' in part ? 'A "file_id" cannot be read here. ' : ''
    throw invalid(
      'missing_required_parameter',
      `"${at}.image_url" is missing. ${hint}An image is ${imagePartExample}.`,
      `${at}.image_url`,
    )
  }
  const value = part[name]
  const unused = fieldsBeside([...describedImage, name], part, at)
  if (isFields(value)) {
    const image = readObject(value, `${at}.${name}`, { detail: part.detail, at })
    return { ...image, unused: [...unused, ...image.unused] }
  }
  return { url: readUrl(value, `${at}.${name}`, isBytes(name)), ...seen(part.detail, at), unused }
}

/** An image in an object: `{"url", "detail"}`, or Anthropic's source of an image. */
function readObject(source: Fields, at: string, beside: { detail?: unknown; at: string }): ContentImage {
  const name = (['url', 'data', 'base64'] as const).find((field) => source[field] !== undefined) ?? 'url'
  const url = readUrl(source[name], `${at}.${name}`, isBytes(name), source.media_type)
  const inner = source.detail ?? undefined
  const unused = fieldsBeside([...describedImage, name], source, at)
  return { url, ...(inner === undefined ? seen(beside.detail, beside.at) : seen(inner, at)), unused }
}

const isBytes = (field: string) => field === 'data' || field === 'base64'

/**
 * The address of an image.
 * @param at name of the field in errors
 * @param isBase64 the text is base64, not an address
 * @throws TurbineError `missing_required_parameter`, `invalid_type`, `invalid_value`
 */
function readUrl(value: unknown, at: string, isBase64 = false, mediaType?: unknown): string {
  const must = 'It must be an https, http, s3 or data URL, like "https://example.com/photo.jpg".'
  if (value === undefined || value === null)
    throw invalid('missing_required_parameter', `"${at}" is missing. ${must}`, at)
  if (typeof value !== 'string')
    throw invalid(
      'invalid_type',
      `"${at}" holds ${Array.isArray(value) ? 'a list' : `a ${typeof value}`}. ${must}`,
      at,
    )
  if (value.trim() === '') throw invalid('invalid_value', `"${at}" is empty. ${must}`, at)
  if (!isBase64 || /^\s*data:/i.test(value.slice(0, 64))) return imageAddress(value)
  return `data:${typeof mediaType === 'string' ? excerpt(mediaType).replace(/[,;]/g, '') : ''};base64,${value}`
}

/**
 * The image in a field of a request or a line: an address, or an object as in a chat's part.
 * @param at name of the field in errors
 * @throws TurbineError `missing_required_parameter`, `invalid_type`, `invalid_value`
 */
export const readImageField = (value: unknown, at: string): ContentImage =>
  isFields(value) ? readObject(value, at, { at }) : { url: readUrl(value, at), unused: [] }

/** What OpenAI's models see of an image in low detail. */
const lowDetailPixels = 512 * 512

/** What is to be seen of an image in this detail. */
function seen(detail: unknown, at: string): Pick<ContentImage, 'maxPrune' | 'enoughPixels'> {
  if (detail === undefined || detail === null) return {}
  if (detail === 'low') return { enoughPixels: lowDetailPixels }
  if (imageDetails.includes(detail as ImageDetail))
    return detail === 'high' || detail === 'original' ? { maxPrune: 0 } : {}
  const allowed = imageDetails.map((each) => `"${each}"`).join(', ')
  throw invalid('invalid_value', `"${at}.detail" must be one of ${allowed}.`, `${at}.detail`)
}
