import type { Config } from '../../../infra/config.ts'
import { FairBudget } from '../../../infra/fair-budget.ts'
import {
  MissingSliceError,
  RefusedSliceError,
  readSlices,
  type Slice,
  type SliceStores,
} from '../../../infra/store/slices.ts'
import { retryLater, TurbineError } from '../../contract/errors.ts'
import type { Downloads, EdgeDeps } from '../../deps.ts'
import { pacedStream, SlowReaderError } from './paced-stream.ts'

export interface DownloadOptions {
  tenant: string
  /** Aborts when the caller leaves. */
  signal: AbortSignal
  /** Ends the connection of the caller; absent where a stream that fails does so. */
  cutOff?(): void
}

/** Limits the downloads from `stores`, over all tenants and for each. */
export const createDownloads = (
  stores: SliceStores,
  { maxDownloads: size, maxTenantDownloads: perOwner, downloadStallMs: stallMs }: DownloadSettings,
): Downloads => ({ stores, places: new FairBudget({ size, perOwner }), stallMs })

type DownloadSettings = Pick<Config, 'maxDownloads' | 'maxTenantDownloads' | 'downloadStallMs'>

/** Typical time until a download ends, s. */
const retryAfterSeconds = 5

/**
 * Streams slices to a caller at its own pace. A download holds one of the tenant's places and one connection of the
 * store, which it returns in every case: at its end, after a failure, when the caller leaves or is too slow.
 * @throws TurbineError `too_many_downloads`, `downloads_full`, `file_content_missing`; StoreUnavailableError; the
 * signal's reason
 */
export async function openDownload(
  { downloads, now, log }: Pick<EdgeDeps, 'downloads' | 'now' | 'log'>,
  slices: readonly Slice[],
  { tenant, signal, cutOff }: DownloadOptions,
): Promise<ReadableStream<Uint8Array>> {
  const { stores, places, stallMs } = downloads
  assertPlace(downloads, tenant)
  const place = places.tryReserve(tenant, 1)!
  const ending = new AbortController()
  const end = (error?: unknown) => {
    place.release()
    ending.abort(new Error('The download has ended.'))
    if (error === undefined) return
    if (!(error instanceof SlowReaderError)) log.warn({ err: error, tenant }, 'a download broke off')
    cutOff?.()
  }
  const chunks = readSlices(slices, stores, AbortSignal.any([signal, ending.signal]))
  try {
    // Before the response starts, so that missing content still has its own status.
    const first = await chunks.next()
    return pacedStream({ first, chunks, stallMs, now, end, silent: cutOff !== undefined })
  } catch (error) {
    place.release()
    throw error instanceof MissingSliceError ? contentMissing(error) : error
  }
}

/**
 * Checks that there is a place for one more download, which costs nothing yet.
 * @throws TurbineError `too_many_downloads`, `downloads_full`
 */
export function assertPlace({ places }: Downloads, tenant: string): void {
  const refusal = places.refusal(tenant, 1)
  if (refusal) throw refusal === 'owner' ? tooMany(places.heldBy(tenant)) : full()
}

const tooMany = (held: number) =>
  retryLater(
    'too_many_downloads',
    `This tenant has reached its limit of ${held} concurrent downloads. Retry when one has completed.`,
    { status: 429, retryAfterSeconds },
  )

const full = () =>
  retryLater('downloads_full', 'The service has as many downloads as it can serve. Retry the request.', {
    retryAfterSeconds,
  })

function contentMissing(cause: MissingSliceError): TurbineError {
  const refused = cause instanceof RefusedSliceError
  const message = refused ? cause.message : "The file's content was deleted from its bucket."
  return new TurbineError(message, { status: 404, code: 'file_content_missing', param: 'id', cause })
}
