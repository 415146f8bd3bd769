import { createHash } from 'node:crypto'
import type { Context, MiddlewareHandler } from 'hono'
import {
  type Decoders,
  decoded,
  encodingsOf,
  isDecodingError,
  unsupportedEncoding,
} from '../../infra/compression/content-encoding.ts'
import type { Reservation } from '../../infra/fair-budget.ts'
import { freeBytes } from '../../infra/free-bytes.ts'
import { joinBytes } from '../../infra/join-bytes.ts'
import { excerpt, TurbineError } from '../contract/errors.ts'
import type { BodyPolicy, EdgeDeps, EdgeEnv, ReceivedBody } from '../deps.ts'
import { atLeastRate, chunksOf } from './body-source.ts'
import { whenAnswered } from './responses.ts'

export interface ReceiveOptions {
  /** Maximum bytes. */
  maxBytes: number
  /** What to do about a larger body. */
  remedy?: string
}

export interface ReceiveBodyOptions extends ReceiveOptions {
  /** Bytes of memory for each byte of the body: what is made of it counts too. Default 1; 0 reserves nothing. */
  copies?: number
}

type BodyDeps = Pick<EdgeDeps, 'bodies'>

/** What becomes of a JSON body: its bytes, its text, and the values in it. */
export const jsonCopies = 3
/** Reserved at first for a body of unknown length, bytes. */
const firstBytes = 64 * 1024

/**
 * Reads the body into `c.get('body')`, then takes the request's place in flight. Memory is reserved before: for a body
 * with a `Content-Length` at once, for another as it grows.
 * @throws TurbineError `body_too_large`, `body_too_slow`, `body_incomplete`, `too_many_bytes_in_flight`, `memory_full`
 */
export function receiveBody(
  { bodies }: BodyDeps,
  given: ReceiveBodyOptions | ((contentType: string) => ReceiveBodyOptions),
): MiddlewareHandler<EdgeEnv> {
  return async (c, next) => {
    const options = typeof given === 'function' ? given(c.req.header('content-type') ?? '') : given
    const { maxBytes, copies = 1 } = options
    const chunks = arriving(c, bodies)
    const announced = announcedBytes(c, options)
    let room = announced ?? Math.min(firstBytes, maxBytes)
    // Without a length it is joined from its chunks, which takes it twice.
    const each = announced === undefined && copies > 0 ? copies + 1 : copies
    const tenant = c.get('tenant')?.id ?? ''
    const reserved = await bodies.memory.reserve(tenant, each * room, c.req.raw)
    const makeRoom = (size: number) => {
      if (size > maxBytes) throw bodyTooLarge(options)
      if (size <= room) return
      const more = Math.max(size - room, Math.min(room, maxBytes - room))
      bodies.memory.grow(tenant, reserved, each * more)
      room += more
    }
    try {
      const bytes = await readBody(chunks, { announced, makeRoom, done: doneWith(c) })
      c.set('body', received(bytes, reserved))
      await c.get('enter')?.()
      await next()
    } finally {
      await whenAnswered(c, () => {
        c.get('body')?.release()
        reserved.release()
      })
    }
  }
}

/**
 * Passes the body on as `c.get('chunks')`, and takes the request's place in flight when it begins. Memory is reserved for
 * what the store buffers of it.
 * @throws as `receiveBody` does; the chunks throw `body_too_slow`
 */
export function receiveStream({ bodies }: BodyDeps, options: ReceiveOptions): MiddlewareHandler<EdgeEnv> {
  return async (c, next) => {
    const chunks = arriving(c, bodies)
    const bytes = Math.min(announcedBytes(c, options) ?? options.maxBytes, bodies.streamBytes)
    const reserved = await bodies.memory.reserve(c.get('tenant').id, bytes, c.req.raw)
    try {
      c.set('chunks', resumed(await chunks.next(), chunks))
      await c.get('enter')?.()
      await next()
    } finally {
      // Not awaited: the source may be silent for good.
      void chunks.return(undefined).catch(() => undefined)
      reserved.release()
    }
  }
}

/** Bytes by `Content-Length`; undefined without one. @throws TurbineError `body_too_large` */
function announcedBytes(c: Context<EdgeEnv>, options: ReceiveOptions): number | undefined {
  const { req } = c
  const announced = Number(req.header('content-length') ?? Number.NaN)
  if (!Number.isSafeInteger(announced) || req.header('transfer-encoding') !== undefined) return undefined
  if (announced > options.maxBytes) throw bodyTooLarge(options)
  return isEncoded(c) ? undefined : announced
}

/** Chunks of the body as it was before it was compressed for its way. @throws TurbineError `content_encoding_unsupported` */
function arriving(c: Context<EdgeEnv>, policy: BodyPolicy): AsyncGenerator<Uint8Array> {
  const { decoders } = policy
  const encodings = encodingsOf(c.req.header('content-encoding'))
  const unsupported = unsupportedEncoding(encodings, decoders)
  if (unsupported !== undefined) {
    const accepted = Object.keys(decoders).join(', ')
    c.header('Accept-Encoding', accepted)
    throw encodingUnsupported(unsupported, accepted)
  }
  const chunks = atLeastRate(c.env?.chunks?.() ?? chunksOf(c.req.raw.body), policy)
  return encodings.length === 0 ? chunks : decodedBody(chunks, encodings, decoders)
}

async function* decodedBody(chunks: AsyncIterable<Uint8Array>, encodings: string[], decoders: Decoders) {
  try {
    yield* decoded(chunks, encodings, decoders)
  } catch (error) {
    throw isDecodingError(error) ? encodingInvalid(encodings, error) : error
  }
}

/** Whether the length of the body says how many bytes come of it. */
const isEncoded = ({ req }: Context<EdgeEnv>) => encodingsOf(req.header('content-encoding')).length > 0

/** What becomes of a chunk that was copied: on Node nothing else has it. */
const doneWith = (c: Context<EdgeEnv>): ((chunk: Uint8Array) => void) =>
  c.env?.chunks ? freeBytes : () => {}

interface ReadBodyOptions {
  announced: number | undefined
  /** Called with the size before a chunk is kept. */
  makeRoom(size: number): void
  /** Called with each chunk that is needed no longer. */
  done(chunk: Uint8Array): void
}

/** Reads a body, without a copy beyond the first if its length is known. */
async function readBody(
  chunks: AsyncIterable<Uint8Array>,
  { announced, makeRoom, done }: ReadBodyOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const whole = announced === undefined ? undefined : new Uint8Array(announced)
  const parts: Uint8Array[] = []
  let size = 0
  try {
    for await (const chunk of chunks) {
      const { byteLength } = chunk
      makeRoom(size + byteLength)
      if (whole) {
        whole.set(chunk, size)
        done(chunk)
      } else parts.push(chunk)
      size += byteLength
    }
  } catch (error) {
    throw error instanceof TurbineError ? error : incomplete(error)
  }
  if (whole && size < whole.byteLength) throw incomplete()
  if (whole) return whole
  const joined = joinBytes(parts, size)
  for (const part of parts) if (part !== joined) done(part)
  return joined
}

/** @param bytes the whole of a buffer that nothing else uses */
function received(bytes: Uint8Array<ArrayBuffer>, memory: Pick<Reservation, 'release'>): ReceivedBody {
  let digest: string | undefined
  let kept = bytes
  const held = [memory]
  const drop = () => {
    kept = new Uint8Array(0)
  }
  return {
    get bytes() {
      return kept
    },
    get digest() {
      digest ??= createHash('sha256').update(kept).digest('hex')
      return digest
    },
    forget() {
      freeBytes(kept)
      drop()
    },
    hold: (more) => void held.push(more),
    release() {
      drop()
      for (const each of held) each.release()
    },
  }
}

async function* resumed(
  first: IteratorResult<Uint8Array, unknown>,
  rest: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (first.done) return
  yield first.value
  yield* rest
}

const bodyTooLarge = ({ maxBytes, remedy = 'Send a smaller or more compressed image.' }: ReceiveOptions) =>
  new TurbineError(`The body is larger than ${maxBytes} bytes. ${remedy}`, {
    status: 413,
    code: 'body_too_large',
  })

const encodingUnsupported = (encoding: string, accepted: string) =>
  new TurbineError(
    `The Content-Encoding ${excerpt(encoding)} is not accepted. Send one of ${accepted}, or none.`,
    { status: 415, code: 'content_encoding_unsupported', param: 'content-encoding' },
  )

const encodingInvalid = (encodings: string[], cause: unknown) =>
  new TurbineError(
    `The body is not what its Content-Encoding ${encodings.join(', ')} says, or ended early. Send it again, or without an encoding.`,
    { status: 400, code: 'content_encoding_invalid', param: 'content-encoding', cause },
  )

const incomplete = (cause?: unknown) =>
  new TurbineError('The body ended early. Retry the request.', {
    status: 400,
    code: 'body_incomplete',
    retriable: true,
    cause,
  })
