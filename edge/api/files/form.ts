import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Busboy, type BusboyFileStream, type BusboyInstance } from '@fastify/busboy'
import type { Context } from 'hono'
import { excerpt, invalid, TurbineError } from '../../contract/errors.ts'
import type { EdgeEnv } from '../../deps.ts'

/** Form as it arrives. */
export interface FormBody {
  contentType: string
  chunks: AsyncIterable<Uint8Array>
}

export interface FormOptions {
  /** Name of the part that is streamed; all others are short text. */
  fileField: string
  /** Maximum bytes of that part. */
  maxBytes: number
  /** Error of a part that has more; default: `file_too_large`. */
  tooLarge?: () => TurbineError
  /** Consumes the part's bytes as they arrive. They fail when the form does. */
  receive(bytes: ReadableStream<Uint8Array>): Promise<unknown>
}

export interface Form {
  /** The text parts; `a[b]` becomes `{ a: { b } }`. */
  fields: Record<string, unknown>
  /** Of the streamed part, if given. */
  filename: string | undefined
  /** Bytes of the streamed part. */
  bytes: number
}

interface FilePart {
  stream: BusboyFileStream
  filename: string | undefined
  received: Promise<unknown>
}

/** The form of a request that `receiveStream` let through. */
export const formOf = (c: Context<EdgeEnv>): FormBody => ({
  contentType: c.req.header('content-type') ?? '',
  chunks: c.get('chunks'),
})

/** Maximum bytes of a form beside its file. */
export const formOverheadBytes = 64 * 1024

/** `Content-Length` of a form: a little more than its file; 0 if it is unknown. */
export const announcedBytes = (c: Context<EdgeEnv>): number =>
  Number(c.req.header('content-length') ?? 0) || 0

const maxTextParts = 16
/** Maximum parts of a form, its file included. */
export const maxFormParts = maxTextParts + 1

const textLimits = { fields: maxTextParts, parts: 32, fieldSize: 1024, headerSize: 8192, headerPairs: 32 }

/**
 * Reads a `multipart/form-data` body and streams its file, which is never in memory as a whole. When this throws,
 * `receive` has ended too, but may have succeeded: the caller removes what it stored.
 * @throws TurbineError `content_type_unsupported`, `form_invalid`, `form_incomplete`, `file_too_large`,
 * `missing_required_parameter`; what `receive` throws
 *
 * @example
 * const form = await readForm(formOf(c), { fileField: 'file', maxBytes, receive: (bytes) => store.put(key, bytes) })
 */
export async function readForm(body: FormBody, options: FormOptions): Promise<Form> {
  const failure = new AbortController()
  const fail = (error: unknown) => failure.abort(error)
  const parser = openParser(body, options)
  const texts: [name: string, value: string][] = []
  const files: FilePart[] = []

  parser.on('field', (name, value, _nameCut, valueCut) => {
    if (valueCut) fail(textTooLong(name, options))
    texts.push([name, value])
  })
  parser.on('file', (_name, stream, filename) => {
    stream.once('limit', () => fail(options.tooLarge?.() ?? fileTooLarge(options)))
    const received = options.receive(Readable.toWeb(stream) as ReadableStream<Uint8Array>)
    received.catch(fail)
    files.push({ stream, filename, received })
  })
  parser.on('filesLimit', () => fail(malformed(`there are several parts "${options.fileField}"`)))
  parser.on('fieldsLimit', () => fail(malformed('there are too many fields')))
  parser.on('partsLimit', () => fail(malformed('there are too many parts')))

  try {
    await feed(body, parser, failure.signal)
    await files[0]?.received
  } catch (error) {
    await Promise.all(files.map((file) => abandon(file, error)))
    throw error
  }
  const [file] = files
  if (!file) throw fileMissing(options.fileField)
  return { fields: nest(texts), filename: file.filename, bytes: file.stream.bytesRead }
}

/** RFC 2046 allows 70 characters. With an empty one the parser would wait for ever. */
const boundary = /;\s*boundary=(?:"[^"]{1,200}"|[^\s;"]{1,200})\s*(?:;|$)/i

function openParser({ contentType }: FormBody, { fileField, maxBytes }: FormOptions): BusboyInstance {
  if (!/^multipart\/form-data\b/i.test(contentType))
    throw new TurbineError(
      `The content type ${contentType ? `"${excerpt(contentType)}" is not accepted` : 'is missing'}. Send multipart/form-data with a part "${fileField}".`,
      { status: 415, code: 'content_type_unsupported', param: 'content-type' },
    )
  if (!boundary.test(contentType)) throw malformed('its content type names no boundary')
  let parser: BusboyInstance
  try {
    parser = new Busboy({
      headers: { 'content-type': contentType },
      limits: { ...textLimits, files: 1, fileSize: maxBytes },
      isPartAFile: (name) => name === fileField,
    })
  } catch (cause) {
    throw malformed('its content type cannot be read', cause)
  }
  // One fault can be emitted twice, the second time without a listener.
  parser.on('error', () => {})
  return parser
}

async function feed({ chunks }: FormBody, parser: BusboyInstance, signal: AbortSignal): Promise<void> {
  const complete = new AbortController()
  // The parser can be done before the body ends, and takes nothing more then: `pipeline` would wait for ever. A fault
  // comes after its end, but in the same turn.
  parser.once('finish', () => setTimeout(() => complete.abort(), 0))
  try {
    await pipeline(chunks, parser, { signal: AbortSignal.any([signal, complete.signal]) })
  } catch (cause) {
    if (cause instanceof TurbineError) throw cause
    if (signal.aborted && cause instanceof Error && cause.name === 'AbortError') throw signal.reason
    if (!complete.signal.aborted) throw incomplete(cause)
  }
}

/** Fails the bytes of a part, and waits until `receive` has ended. */
async function abandon({ stream, received }: FilePart, error: unknown): Promise<void> {
  stream.on('error', () => {})
  stream.destroy(error as Error)
  await received.catch(() => undefined)
}

/** `[['a[b]', 'c']]` to `{ a: { b: 'c' } }`, as SDKs flatten objects in forms. */
function nest(texts: [name: string, value: string][]): Record<string, unknown> {
  const fields = new Map<string, unknown>()
  for (const [name, value] of texts) {
    const [, parent, child] = /^([^[\]]+)\[([^[\]]+)\]$/.exec(name) ?? []
    if (parent === undefined || child === undefined) fields.set(name, value)
    else fields.set(parent, { ...Object(fields.get(parent)), [child]: value })
  }
  return Object.fromEntries(fields)
}

const malformed = (what: string, cause?: unknown) =>
  invalid('form_invalid', `The form is invalid: ${what}. Send multipart/form-data.`, undefined, cause)

const textTooLong = (name: string, { fileField }: FormOptions) =>
  malformed(`"${excerpt(name)}" has more than ${textLimits.fieldSize} bytes; only "${fileField}" may`)

const incomplete = (cause: unknown) =>
  new TurbineError('The form ended early or is malformed. Nothing was stored; retry the request.', {
    status: 400,
    code: 'form_incomplete',
    retriable: true,
    cause,
  })

const fileTooLarge = ({ fileField, maxBytes }: FormOptions) =>
  new TurbineError(`"${fileField}" has more than ${maxBytes} bytes. Upload it in parts: POST /v1/uploads.`, {
    status: 413,
    code: 'file_too_large',
    param: fileField,
  })

const fileMissing = (fileField: string) =>
  invalid(
    'missing_required_parameter',
    `"${fileField}" is missing. It must be a part of the form with the file's bytes.`,
    fileField,
  )
