import type { Context } from 'hono'
import { captionRequestSchema, maxBodyBytes } from '../contract/caption.ts'
import { decodeDataUrl } from '../contract/data-url.ts'
import { TurbineError } from '../contract/errors.ts'
import { checkImage } from '../contract/image.ts'
import { parse } from '../contract/parse.ts'
import type { EdgeDeps, EdgeEnv, FetchImage } from '../deps.ts'
import type { Submission } from '../submit.ts'
import { captionQuerySchema } from './caption-routes.ts'
import { findModel } from './models.ts'

/** What a request asks for, whichever way it came. */
export type CaptionAsk = Pick<Submission, 'image' | 'model' | 'prompt' | 'maxPrune' | 'deadlineMs'>

type RequestDeps = Pick<EdgeDeps, 'models' | 'fetchImage'>

/**
 * Reads and checks a request for a caption: raw image bytes with options in the query, or JSON.
 * @throws TurbineError with the field at fault
 */
export async function readCaptionRequest(c: Context<EdgeEnv>, deps: RequestDeps): Promise<CaptionAsk> {
  const mediaType = (c.req.header('content-type') ?? '').split(';')[0]!.trim().toLowerCase()
  if (mediaType === 'application/json') return readJson(c, deps)
  const nothing = mediaType === '' && (await bodyBytes(c)).length === 0
  if (nothing || mediaType.startsWith('image/') || mediaType === 'application/octet-stream')
    return readRaw(c, deps)
  throw new TurbineError(
    `The content type ${mediaType ? `"${mediaType.slice(0, 80)}" is not accepted` : 'is missing'}. Send an image with image/jpeg (or its own type) or application/octet-stream, or JSON with application/json.`,
    { status: 415, code: 'content_type_unsupported', param: 'content-type' },
  )
}

async function readRaw(c: Context<EdgeEnv>, deps: RequestDeps): Promise<CaptionAsk> {
  const query = parse(captionQuerySchema, queryOf(c))
  const model = findModel(await deps.models(), query.model).id
  const image = await bodyBytes(c)
  checkImage(image)
  return {
    image,
    model,
    prompt: query.prompt,
    maxPrune: query.max_prune ?? 1,
    deadlineMs: query.deadline_ms,
  }
}

async function readJson(c: Context<EdgeEnv>, deps: RequestDeps): Promise<CaptionAsk> {
  refuseQuery(c)
  const request = parse(captionRequestSchema, parseJson(new TextDecoder().decode(await bodyBytes(c))))
  const model = findModel(await deps.models(), request.model).id
  const image = await imageAt(request.image_url, deps.fetchImage, c.req.raw.signal)
  checkImage(image, 'image_url')
  return {
    image,
    model,
    prompt: request.prompt,
    maxPrune: request.turbine?.max_prune ?? 1,
    deadlineMs: request.turbine?.deadline_ms,
  }
}

/** A parameter that came once is text; one that came more often stays a list, for the schema to refuse. */
const queryOf = (c: Context<EdgeEnv>) =>
  Object.fromEntries(
    Object.entries(c.req.queries()).map(([name, values]) => [name, values.length === 1 ? values[0] : values]),
  )

function refuseQuery(c: Context<EdgeEnv>) {
  const [name] = Object.keys(c.req.query())
  if (name === undefined) return
  throw new TurbineError(
    'Options go into the JSON body, not into the query: prompt and model at its top, max_prune and deadline_ms under turbine.',
    { status: 400, code: 'unknown_parameter', param: name.slice(0, 80) },
  )
}

async function bodyBytes(c: Context<EdgeEnv>): Promise<Uint8Array> {
  try {
    return new Uint8Array(await c.req.arrayBuffer())
  } catch (cause) {
    throw new TurbineError('The body ended early. Send the request again.', {
      status: 400,
      code: 'body_incomplete',
      retriable: true,
      cause,
    })
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new TurbineError(
      'The body is not valid JSON. Send an object like {"image_url": "https://example.com/photo.jpg"}.',
      { status: 400, code: 'invalid_json', cause },
    )
  }
}

/** The bytes that an `image_url` names or holds. */
async function imageAt(url: string, fetchImage: FetchImage, signal: AbortSignal): Promise<Uint8Array> {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase()
  if (scheme === 'data') return decodeDataUrl(url)
  if (scheme !== 'https' && scheme !== 'http')
    throw new TurbineError('"image_url" must start with https:// or data:.', {
      status: 400,
      code: 'image_url_invalid',
      param: 'image_url',
    })
  try {
    return await fetchImage(url, { maxBytes: maxBodyBytes, signal })
  } catch (error) {
    throw fetchFault(error) ?? error
  }
}

/** The caller's side of a failed fetch: the fetcher names those faults `image_url_*`. */
function fetchFault(error: unknown): TurbineError | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  const { code, message } = error
  if (typeof code !== 'string' || !code.startsWith('image_url_')) return undefined
  const retriable = 'retriable' in error && error.retriable === true
  return new TurbineError(message, { status: 400, code, param: 'image_url', retriable, cause: error })
}
