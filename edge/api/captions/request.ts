import type { Context, MiddlewareHandler } from 'hono'
import { type Asked, fitAsk } from '../../contract/ask.ts'
import { captionEnd, captionRequestSchema, maxHoldMs } from '../../contract/caption.ts'
import { readImageField } from '../../contract/content.ts'
import { excerpt, invalid, TurbineError } from '../../contract/errors.ts'
import { generationIn } from '../../contract/generation.ts'
import { checkImage } from '../../contract/image.ts'
import { capabilitiesOf } from '../../contract/model.ts'
import { ignoredHeader, ignoredNames, withoutNulls, withoutUnknown } from '../../contract/parameters.ts'
import { parse } from '../../contract/parse.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import type { CaptionAsk } from '../../submit/once.ts'
import { findServedModel } from '../models.ts'
import { imagesReader, queryOf, readJson } from '../read.ts'
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
  const query = parse(captionQuerySchema, fields)
  const body = c.get('body')
  const asked = {
    imageUrls: [''],
    prompt: query.prompt,
    task: query.task,
    maxPixels: query.max_pixels,
    generation: generationIn(query),
    ...captionEnd([query.max_tokens], query.stop),
    ignored: dropped,
  }
  const fit = await fitRequest(c, deps, asked, query.model)
  checkImage(body.bytes, undefined, deps.imageLimits)
  return {
    images: async () => [body.bytes],
    ...fit,
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
  const { image_url, turbine, model, prompt, max_tokens, stop, ...others } = parse(
    captionRequestSchema,
    fields,
  )
  const image = readImageField(image_url, 'image_url')
  return askAbout(c, deps, {
    imageUrls: [image.url],
    model,
    prompt,
    task: turbine?.task,
    maxPixels: turbine?.max_pixels,
    enoughPixels: image.enoughPixels,
    generation: generationIn(others),
    ...captionEnd([max_tokens], stop),
    maxPrune: turbine?.max_prune ?? image.maxPrune,
    deadlineMs: turbine?.deadline_ms,
    ignored: dropped,
  })
}

const isFields = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Names the parameters that were ignored in the response, whatever it is. */
function tellIgnored(c: Context<EdgeEnv>, ignored: readonly string[]): void {
  if (ignored.length === 0) return
  c.set('ignored', ignored)
  c.header(ignoredHeader, ignoredNames(ignored))
}

/** What the model of a request makes of it; what is ignored is told. @throws TurbineError as `findServedModel`, `fitAsk` */
async function fitRequest(c: Context<EdgeEnv>, deps: RequestDeps, asked: Asked, name: string | undefined) {
  const model = await findServedModel(deps, name)
  const { ignored, ...fit } = fitAsk(asked, { id: model.id, can: capabilitiesOf(model) }, deps.reading)
  tellIgnored(c, ignored)
  return { model: model.id, ...fit }
}

/** What the JSON of a request asks for. */
interface JsonAsk extends Asked, Pick<CaptionAsk, 'deadlineMs'> {
  model?: string
  maxPrune?: number
}

/** Builds a request for image URLs, which are fetched only when the job is sent. */
export async function askAbout(
  c: Context<EdgeEnv>,
  deps: RequestDeps,
  { model, maxPrune = 1, deadlineMs, ...asked }: JsonAsk,
): Promise<CaptionAsk> {
  const fit = await fitRequest(c, deps, asked, model)
  const until = deps.now() + Math.min(deadlineMs ?? maxHoldMs, maxHoldMs)
  return { images: imagesReader(c, deps, asked.imageUrls, until), ...fit, maxPrune, deadlineMs }
}

function refuseQuery(c: Context<EdgeEnv>) {
  const [name] = Object.keys(c.req.query())
  if (name === undefined) return
  throw invalid(
    'unknown_parameter',
    'Options of a JSON request go into its body, not into the query: prompt and model at the top level, max_prune, deadline_ms, task and max_pixels under turbine.',
    excerpt(name),
  )
}
