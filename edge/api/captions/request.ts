import type { Context, MiddlewareHandler } from 'hono'
import { captionEnd, captionRequestSchema, maxHoldMs } from '../../contract/caption.ts'
import { readImageField } from '../../contract/content.ts'
import { excerpt, invalid, TurbineError } from '../../contract/errors.ts'
import { checkImage } from '../../contract/image.ts'
import { ignoredHeader, ignoredNames, withoutNulls, withoutUnknown } from '../../contract/parameters.ts'
import { parse } from '../../contract/parse.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import type { CaptionAsk } from '../../submit/once.ts'
import { findServedModel } from '../models.ts'
import { imageReader, queryOf, readJson } from '../read.ts'
import { captionQuerySchema } from './routes.ts'

type RequestDeps = Pick<EdgeDeps, 'models' | 'reading' | 'images' | 'bodies' | 'now' | 'imageLimits'>

const example = { image_url: 'https://example.com/photo.jpg' }

const mediaTypeOf = (contentType = '') => contentType.split(';')[0]!.trim().toLowerCase()

export const isJson = (contentType: string | undefined) => mediaTypeOf(contentType) === 'application/json'

/**
 * Rejects a body that is neither an image nor JSON before it is read. An empty one needs no type: its error is another.
 * @throws TurbineError `content_type_unsupported`
 */
export const acceptMediaTypes: MiddlewareHandler<EdgeEnv> = async (c, next) => {
  const mediaType = mediaTypeOf(c.req.header('content-type'))
  const accepted =
    mediaType.startsWith('image/') || ['', 'application/json', 'application/octet-stream'].includes(mediaType)
  if (!accepted) throw unsupported(`"${mediaType.slice(0, 80)}" is not accepted`)
  await next()
}

/**
 * Reads a caption request: raw image bytes with options in the query, or JSON.
 * @throws TurbineError with the field at fault
 */
export async function readCaptionRequest(c: Context<EdgeEnv>, deps: RequestDeps): Promise<CaptionAsk> {
  const contentType = c.req.header('content-type')
  if (isJson(contentType)) return jsonAsk(c, deps)
  if (mediaTypeOf(contentType) === '' && c.get('body').bytes.length > 0) throw unsupported('is missing')
  return rawAsk(c, deps)
}

const unsupported = (problem: string) =>
  new TurbineError(
    `The content type ${problem}. Send an image with image/jpeg (or its own type) or application/octet-stream, or JSON with application/json.`,
    { status: 415, code: 'content_type_unsupported', param: 'content-type' },
  )

async function rawAsk(c: Context<EdgeEnv>, deps: RequestDeps): Promise<CaptionAsk> {
  const known = Object.keys(captionQuerySchema.shape)
  const { fields, dropped } = withoutUnknown(queryOf(c), deps.reading.ignored ?? [], known)
  tellIgnored(c, dropped)
  const query = parse(captionQuerySchema, fields)
  const model = (await findServedModel(deps, query.model)).id
  const body = c.get('body')
  checkImage(body.bytes, undefined, deps.imageLimits)
  return {
    image: async () => body.bytes,
    model,
    prompt: query.prompt,
    ...captionEnd([query.max_tokens], query.stop),
    maxPrune: query.max_prune ?? 1,
    deadlineMs: query.deadline_ms,
  }
}

async function jsonAsk(c: Context<EdgeEnv>, deps: RequestDeps): Promise<CaptionAsk> {
  refuseQuery(c)
  const body = await readJson(c, example)
  const ignored = deps.reading.ignored ?? []
  const { fields, dropped } = isFields(body)
    ? withoutUnknown(withoutNulls(body), ignored, Object.keys(captionRequestSchema.shape))
    : { fields: body, dropped: [] }
  tellIgnored(c, dropped)
  const { image_url, turbine, model, prompt, max_tokens, stop } = parse(captionRequestSchema, fields)
  const image = readImageField(image_url, 'image_url')
  const maxPrune = turbine?.max_prune ?? image.maxPrune
  const end = captionEnd([max_tokens], stop)
  return askAbout(c, deps, image.url, { model, prompt, ...end, maxPrune, deadlineMs: turbine?.deadline_ms })
}

const isFields = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Names the parameters that were ignored in the response, whatever it is. */
export function tellIgnored(c: Context<EdgeEnv>, ignored: readonly string[]): void {
  if (ignored.length === 0) return
  c.set('ignored', ignored)
  c.header(ignoredHeader, ignoredNames(ignored))
}

/** Builds a request for an image URL, which is fetched only when the job is sent. */
export async function askAbout(
  c: Context<EdgeEnv>,
  deps: RequestDeps,
  url: string,
  { model, maxPrune = 1, prompt, maxTokens, stop, deadlineMs }: Partial<Omit<CaptionAsk, 'image'>>,
): Promise<CaptionAsk> {
  return {
    image: imageReader(c, deps, url, deps.now() + Math.min(deadlineMs ?? maxHoldMs, maxHoldMs)),
    model: (await findServedModel(deps, model)).id,
    prompt,
    maxTokens,
    stop,
    maxPrune,
    deadlineMs,
  }
}

function refuseQuery(c: Context<EdgeEnv>) {
  const [name] = Object.keys(c.req.query())
  if (name === undefined) return
  throw invalid(
    'unknown_parameter',
    'Options of a JSON request go into its body, not into the query: prompt and model at the top level, max_prune and deadline_ms under turbine.',
    excerpt(name),
  )
}
