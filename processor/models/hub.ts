import { z } from 'zod'
import { parseRetryAfter } from '../../infra/retry.ts'

/** Default endpoint. */
export const publicHub = 'https://huggingface.co'

export interface Hub {
  /** URL of the hub's API, e.g. `https://huggingface.co`. */
  endpoint: string
  /** Access token; sent only to the endpoint's host. */
  token?: string
}

export interface HubFile {
  name: string
  /** Bytes. */
  size: number
  /** Of the whole content for large files, of git's blob for small ones. */
  checksum: { algorithm: 'sha256' | 'git-sha1'; hex: string }
}

/** Model at one commit, so that its files are consistent. */
export interface HubModel {
  id: string
  commit: string
  files: HubFile[]
}

/** Failed request to a hub. */
export class HubError extends Error {
  override readonly name = 'HubError'
  readonly code: 'hub_unreachable' | 'hub_busy' | 'model_not_found' | 'hub_refused' | 'hub_invalid'
  readonly retriable: boolean
  /** `Retry-After` of the hub, ms. */
  readonly retryAfterMs: number | undefined

  constructor(
    message: string,
    code: HubError['code'],
    options: { cause?: unknown; retryAfterMs?: number } = {},
  ) {
    super(message, { cause: options.cause })
    this.code = code
    this.retriable = code === 'hub_unreachable' || code === 'hub_busy'
    this.retryAfterMs = options.retryAfterMs
  }
}

const modelInfo = z.object({
  sha: z.string().regex(/^[0-9a-f]{40}$/),
  siblings: z.array(
    z.object({
      rfilename: z.string(),
      size: z.int().min(0),
      blobId: z.string(),
      lfs: z.object({ sha256: z.string(), size: z.int().min(0) }).nullish(),
    }),
  ),
})

/**
 * Fetches the files of a model with sizes and checksums: `GET /api/models/<id>/revision/<revision>?blobs=true`.
 * @param revision a branch, a tag, a commit or `refs/pr/<n>`
 * @throws HubError
 */
export async function listModel(hub: Hub, id: string, revision: string): Promise<HubModel> {
  const path = `/api/models/${encodePath(id)}/revision/${encodeURIComponent(revision)}?blobs=true`
  const response = await requestHub(hub, path, { model: `${id} at ${revision}` })
  const info = modelInfo.safeParse(await response.json().catch(() => undefined))
  if (!info.success)
    throw new HubError(`${hub.endpoint} is not a Hugging Face hub. Check HF_ENDPOINT.`, 'hub_invalid', {
      cause: info.error,
    })
  const files = info.data.siblings.map(({ rfilename: name, size, blobId, lfs }): HubFile => {
    if (lfs) return { name, size: lfs.size, checksum: { algorithm: 'sha256', hex: lfs.sha256 } }
    return { name, size, checksum: { algorithm: 'git-sha1', hex: blobId } }
  })
  return { id, commit: info.data.sha, files }
}

/** Fetches a file from byte `start` on: status 206, or 200 for the whole file. @throws HubError */
export function requestFile(hub: Hub, model: HubModel, name: string, start = 0): Promise<Response> {
  // Byte ranges must be of the uncompressed file.
  const headers: Record<string, string> = { 'accept-encoding': 'identity' }
  if (start > 0) headers.range = `bytes=${start}-`
  return requestHub(hub, `/${encodePath(model.id)}/resolve/${model.commit}/${encodePath(name)}`, {
    headers,
    model: `${name} of ${model.id}`,
  })
}

const encodePath = (path: string) => path.split('/').map(encodeURIComponent).join('/')

async function requestHub(
  hub: Hub,
  path: string,
  { model, headers = {} }: { model: string; headers?: Record<string, string> },
): Promise<Response> {
  // On a redirect to another origin, e.g. a hub's storage, fetch drops the authorization.
  const authorization: Record<string, string> = hub.token ? { authorization: `Bearer ${hub.token}` } : {}
  let response: Response
  try {
    response = await fetch(hub.endpoint.replace(/\/+$/, '') + path, {
      headers: { ...headers, ...authorization },
    })
  } catch (cause) {
    throw unreachable(hub, cause)
  }
  if (response.ok) return response
  await response.body?.cancel()
  throw refusal(hub, response, model)
}

/** Makes an error of a failed connection. */
export function unreachable(hub: Hub, cause: unknown): HubError {
  const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  const code = reason instanceof Error && 'code' in reason ? ` (${String(reason.code)})` : ''
  return new HubError(
    `${hostOf(hub)} is unreachable${code}. Check the network, set HF_ENDPOINT to a mirror, or copy the model's ` +
      'folder to this machine and use it with --model.',
    'hub_unreachable',
    { cause },
  )
}

function refusal(hub: Hub, response: Response, model: string): HubError {
  const { status } = response
  if (status === 429 || status >= 500) {
    return new HubError(`${hostOf(hub)} is busy (${status}). Try again later.`, 'hub_busy', {
      retryAfterMs: parseRetryAfter(response.headers.get('retry-after')),
    })
  }
  if (status === 403)
    return new HubError(
      `${hostOf(hub)} denies access to ${model}: accept its terms on its page, and set HF_TOKEN to a token with read access.`,
      'hub_refused',
    )
  // The public hub hides private models behind a 401, not a 404.
  if (status === 401 || status === 404)
    return new HubError(
      `${hostOf(hub)} has no ${model}${hub.token ? ' that HF_TOKEN can read' : ''}. Check the name and --revision` +
        `${hub.token ? '' : '; for a private model set HF_TOKEN'}.`,
      'model_not_found',
    )
  return new HubError(`${hostOf(hub)} responded ${status} to the request for ${model}.`, 'hub_invalid')
}

const hostOf = ({ endpoint }: Hub) => (URL.canParse(endpoint) ? new URL(endpoint).host : endpoint)
