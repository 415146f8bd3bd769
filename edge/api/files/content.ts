import type { Context } from 'hono'
import { cutSlices, MissingSliceError, readSlices, type SliceStores } from '../../../infra/store/slices.ts'
import { excerpt, TurbineError } from '../../contract/errors.ts'
import type { StoredFile } from '../../contract/file.ts'
import type { EdgeEnv } from '../../deps.ts'

/**
 * Streams a file's content, or the one range of a `Range` header (RFC 9110).
 * @throws TurbineError `range_invalid`, `file_content_missing`; StoreUnavailableError
 */
export async function answerContent(
  c: Context<EdgeEnv>,
  stores: SliceStores,
  { file, slices }: StoredFile,
): Promise<Response> {
  const range = parseRange(c.req.header('range'), file.bytes)
  const { start, end } = range ?? { start: 0, end: file.bytes }
  const body = await openStream(readSlices(cutSlices(slices, start, end), stores))
  if (range) c.header('Content-Range', `bytes ${start}-${end - 1}/${file.bytes}`)
  c.header('Accept-Ranges', 'bytes')
  c.header('Content-Length', String(end - start))
  // No browser may show the content as a page of this service.
  c.header('Content-Type', 'application/octet-stream')
  c.header(
    'Content-Disposition',
    `attachment; filename*=UTF-8''${encodeURIComponent(file.filename.toWellFormed())}`,
  )
  c.header('X-Content-Type-Options', 'nosniff')
  return c.body(body, range ? 206 : 200)
}

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

/** Reads the first chunk before the response starts, so that missing content still has its own status. */
async function openStream(chunks: AsyncGenerator<Uint8Array>): Promise<ReadableStream<Uint8Array>> {
  const first = await chunks.next().catch(refuseMissing)
  return ReadableStream.from(
    (async function* () {
      if (first.done) return
      yield first.value
      yield* chunks
    })(),
  )
}

function refuseMissing(error: unknown): never {
  if (!(error instanceof MissingSliceError)) throw error
  throw new TurbineError("The file's content was deleted from its bucket.", {
    status: 404,
    code: 'file_content_missing',
    param: 'id',
    cause: error,
  })
}
