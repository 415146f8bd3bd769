import type { Context } from 'hono'
import { cutSlices, MissingSliceError, readSlices, type SliceStores } from '../../../infra/store/slices.ts'
import { TurbineError } from '../../contract/errors.ts'
import type { StoredFile } from '../../contract/file.ts'
import type { EdgeEnv } from '../../deps.ts'

/**
 * Streams a file's bytes, or the one range that a `Range` header (RFC 9110) asks for.
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
  // Whatever the bytes are, no browser is to show them as a page of this service.
  c.header('Content-Type', 'application/octet-stream')
  c.header(
    'Content-Disposition',
    `attachment; filename*=UTF-8''${encodeURIComponent(file.filename.toWellFormed())}`,
  )
  c.header('X-Content-Type-Options', 'nosniff')
  return c.body(body, range ? 206 : 200)
}

/**
 * The bytes `[start, end)` that a header asks for; undefined for all of them, also when it asks in a way that a
 * server may ignore: in other units, for several ranges.
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
  throw new TurbineError(`The range ${header?.slice(0, 80)} is not in a file of ${size} bytes.`, {
    status: 416,
    code: 'range_invalid',
    param: 'range',
  })
}

/** Begins to read before the answer does, so that what is not there is still answered with a status of its own. */
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
  throw new TurbineError("The file's bytes are gone. They were removed from the bucket that they lay in.", {
    status: 404,
    code: 'file_content_missing',
    param: 'id',
    cause: error,
  })
}
