import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { Reservation } from '../../infra/fair-budget.ts'
import { largeCharacters, nextTurn } from '../../infra/timing.ts'
import { imagesTooLarge } from '../contract/ask.ts'
import { maxBodyBytes } from '../contract/caption.ts'
import { invalid, TurbineError } from '../contract/errors.ts'
import { checkImage } from '../contract/image.ts'
import { decodeJson, type JsonLimits, parseJson } from '../contract/json.ts'
import { assertGranted } from '../contract/tenant.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/** Maximum bytes of a JSON body without an image. */
export const maxJsonBytes = 64 * 1024

/**
 * Reads the body as JSON, not yet validated.
 * @param example valid body, for the error message
 * @throws TurbineError `invalid_json`, `json_too_complex`
 */
export async function readJson(c: Context<EdgeEnv>, example: object, limits?: JsonLimits): Promise<unknown> {
  const text = takeText(c, limits)
  if (text.length > largeCharacters) await nextTurn()
  try {
    return parseJson(text, limits)
  } catch (cause) {
    if (cause instanceof TurbineError) throw cause
    const message = `The body is not valid JSON. Send an object like ${JSON.stringify(example)}.`
    throw invalid('invalid_json', message, undefined, cause)
  }
}

/** The text of the body, whose bytes are needed no longer; the text is as large again. */
function takeText(c: Context<EdgeEnv>, limits?: JsonLimits): string {
  const body = c.get('body')
  try {
    const text = decodeJson(body.bytes, limits)
    // Only an idempotency key needs them after it.
    if (c.req.header('idempotency-key') !== undefined) void body.digest
    return text
  } finally {
    body.forget()
  }
}

/**
 * Makes a reader of the image at a URL in the request. An image that is fetched counts as a body until the job is sent.
 * @param until unix ms, as of `ImageAsk`
 * @returns a function to call once, which throws ImageError, and what else an `ImageSource` throws
 */
function imageReader(
  c: Context<EdgeEnv>,
  {
    images,
    ownBucket,
    bodies,
    imageLimits,
  }: Pick<EdgeDeps, 'images' | 'ownBucket' | 'bodies' | 'imageLimits'>,
  url: string,
  until: number,
) {
  const tenant = c.get('tenant')
  // Forgotten once it is read: it can hold the whole image.
  let address = url
  const granted = (uri: string) => assertGranted(tenant, 'read', uri, { ownBucket, param: 'image_url' })
  return async (): Promise<Uint8Array> => {
    let reserved: Reservation | undefined
    const room = async (bytes: number) => {
      reserved = await bodies.memory.reserve(tenant.id, bytes, c.req.raw)
      c.get('body').hold(reserved)
    }
    const image = await images(address, { owner: tenant.id, granted, room, until, signal: c.req.raw.signal })
    reserved?.shrink(image.length)
    address = ''
    checkImage(image, 'image_url', imageLimits)
    return image
  }
}

/**
 * Makes a reader of the images at several URLs, one after the other, which have together at most as many bytes as one may
 * have.
 * @returns a function to call once, which throws TurbineError `images_too_large`, and what `imageReader` throws
 */
export function imagesReader(
  c: Context<EdgeEnv>,
  deps: Parameters<typeof imageReader>[1],
  urls: readonly string[],
  until: number,
) {
  const readers = urls.map((url) => imageReader(c, deps, url, until))
  return async (): Promise<Uint8Array[]> => {
    const images: Uint8Array[] = []
    let left = maxBodyBytes
    for (const read of readers) {
      const image = await read()
      left -= image.length
      if (left < 0) throw imagesTooLarge()
      images.push(image)
    }
    // They are put together for the job.
    if (images.length > 1) {
      const room = await deps.bodies.memory.reserve(c.get('tenant').id, maxBodyBytes - left, c.req.raw)
      c.get('body').hold(room)
    }
    return images
  }
}

/** Converts text to a number; other text stays, for the schema to reject. */
export const fromText = <Schema extends z.ZodType>(schema: Schema) =>
  z.preprocess((text) => (typeof text === 'string' && text.trim() !== '' ? Number(text) : text), schema)

/** Query parameters: repeated ones are lists, for the schema to reject. */
export const queryOf = (c: Context<EdgeEnv>) =>
  Object.fromEntries(
    Object.entries(c.req.queries()).map(([name, values]) => [name, values.length === 1 ? values[0] : values]),
  )
