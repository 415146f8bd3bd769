import type { Context } from 'hono'
import { captionRequestSchema } from '../../contract/caption.ts'
import { excerpt, invalid, TurbineError } from '../../contract/errors.ts'
import { checkImage } from '../../contract/image.ts'
import { parse } from '../../contract/parse.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import type { CaptionAsk } from '../../submit/once.ts'
import { findModel } from '../models.ts'
import { imageReader, queryOf, readBytes, readJson } from '../read.ts'
import { captionQuerySchema } from './routes.ts'

type RequestDeps = Pick<EdgeDeps, 'models' | 'images'>

const example = { image_url: 'https://example.com/photo.jpg' }

/**
 * Reads a caption request: raw image bytes with options in the query, or JSON.
 * @throws TurbineError with the field at fault
 */
export async function readCaptionRequest(c: Context<EdgeEnv>, deps: RequestDeps): Promise<CaptionAsk> {
  const mediaType = (c.req.header('content-type') ?? '').split(';')[0]!.trim().toLowerCase()
  if (mediaType === 'application/json') return jsonAsk(c, deps)
  const nothing = mediaType === '' && (await readBytes(c)).length === 0
  if (nothing || mediaType.startsWith('image/') || mediaType === 'application/octet-stream')
    return rawAsk(c, deps)
  throw new TurbineError(
    `The content type ${mediaType ? `"${excerpt(mediaType)}" is not accepted` : 'is missing'}. Send an image with image/jpeg (or its own type) or application/octet-stream, or JSON with application/json.`,
    { status: 415, code: 'content_type_unsupported', param: 'content-type' },
  )
}

async function rawAsk(c: Context<EdgeEnv>, deps: RequestDeps): Promise<CaptionAsk> {
  const query = parse(captionQuerySchema, queryOf(c))
  const model = findModel(await deps.models(), query.model).id
  const image = await readBytes(c)
  checkImage(image)
  return {
    image,
    model,
    prompt: query.prompt,
    maxPrune: query.max_prune ?? 1,
    deadlineMs: query.deadline_ms,
  }
}

async function jsonAsk(c: Context<EdgeEnv>, deps: RequestDeps): Promise<CaptionAsk> {
  refuseQuery(c)
  const request = parse(captionRequestSchema, await readJson(c, example))
  const { image_url: url, turbine, ...asked } = request
  const options = { maxPrune: turbine?.max_prune, deadlineMs: turbine?.deadline_ms }
  return askAbout(c, deps, url, { ...asked, ...options })
}

/** Builds a request for an image URL, which is fetched only when the job is sent. */
export async function askAbout(
  c: Context<EdgeEnv>,
  deps: RequestDeps,
  url: string,
  { model, maxPrune = 1, prompt, deadlineMs }: Partial<Omit<CaptionAsk, 'image'>>,
): Promise<CaptionAsk> {
  return {
    image: imageReader(c, deps, url),
    model: findModel(await deps.models(), model).id,
    prompt,
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
