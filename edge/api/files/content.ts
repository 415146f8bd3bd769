import type { Context } from 'hono'
import { cutSlices, type Slice } from '../../../infra/store/slices.ts'
import { excerpt, TurbineError } from '../../contract/errors.ts'
import { cutFilename, type StoredFile } from '../../contract/file.ts'
import { assertGranted, isGranted, type Tenant } from '../../contract/tenant.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import { openDownload } from './download.ts'

/**
 * Content in a bucket of the tenant is read while the tenant may write there, as when it was written, or read it.
 * @throws TurbineError `s3_not_granted`
 */
function assertReadable(tenant: Tenant, slices: readonly Slice[], ownBucket: string | undefined): void {
  for (const { bucket, key } of slices) {
    if (bucket === undefined || isGranted(tenant, 'write', { bucket, key }, ownBucket)) continue
    assertGranted(tenant, 'read', `s3://${bucket}/${key}`, { ownBucket, param: 'id' })
  }
}

/**
 * Streams a file's content, or the one range of a `Range` header (RFC 9110). HEAD opens nothing.
 * @throws TurbineError `s3_not_granted`, `range_invalid`, those of `openDownload`; StoreUnavailableError
 */
export async function answerContent(
  c: Context<EdgeEnv>,
  deps: Pick<EdgeDeps, 'downloads' | 'ownBucket' | 'now' | 'log'>,
  { file, slices }: StoredFile,
): Promise<Response> {
  const tenant = c.get('tenant')
  assertReadable(tenant, slices, deps.ownBucket)
  const isHead = c.req.method === 'HEAD'
  // Ranges are defined for GET only.
  const range = isHead ? undefined : parseRange(c.req.header('range'), file.bytes)
  const { start, end } = range ?? { start: 0, end: file.bytes }
  const download = { tenant: tenant.id, signal: c.req.raw.signal, cutOff: c.env?.cutOff }
  const body = isHead ? null : await openDownload(deps, cutSlices(slices, start, end), download)
  if (range) c.header('Content-Range', `bytes ${start}-${end - 1}/${file.bytes}`)
  c.header('Accept-Ranges', 'bytes')
  c.header('Content-Length', String(end - start))
  // No browser may show the content as a page of this service.
  c.header('Content-Type', 'application/octet-stream')
  c.header('Content-Disposition', `attachment; filename*=UTF-8''${encodeFilename(file.filename)}`)
  c.header('X-Content-Type-Options', 'nosniff')
  return c.newResponse(body, range ? 206 : 200)
}

/** An `ext-value` of RFC 8187, which allows fewer characters than a URL. */
const encodeFilename = (filename: string) =>
  encodeURIComponent(cutFilename(filename)).replace(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )

/**
 * Parses the byte range `[start, end)` of a header; undefined for all bytes, also where a server may ignore the
 * header: other units, several ranges.
 * @throws TurbineError `range_invalid`
 */
export function parseRange(
  header: string | undefined,
  size: number,
): { start: number; end: number } | undefined {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '') ?? []
  if (first === '' && last === '') return undefined
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1)
  if (start < end) return { start, end }
  throw new TurbineError(`The range ${excerpt(header ?? '')} is outside the file of ${size} bytes.`, {
    status: 416,
    code: 'range_invalid',
    param: 'range',
  })
}
