import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { TurbineError } from '../contract/errors.ts'
import { checkImage } from '../contract/image.ts'
import { assertGranted } from '../contract/tenant.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/** Bytes of a JSON body that holds no image. */
export const maxJsonBytes = 1024 * 1024

/** @throws TurbineError `body_incomplete` */
export async function readBytes(c: Context<EdgeEnv>): Promise<Uint8Array> {
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

/**
 * The body as JSON, not yet checked.
 * @param example what the route takes, for the error
 * @throws TurbineError `body_incomplete`, `invalid_json`
 */
export async function readJson(c: Context<EdgeEnv>, example: object): Promise<unknown> {
  const text = new TextDecoder().decode(await readBytes(c))
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new TurbineError(`The body is not valid JSON. Send an object like ${JSON.stringify(example)}.`, {
      status: 400,
      code: 'invalid_json',
      cause,
    })
  }
}

/**
 * Reads, when it is called, the image at an address that the request names.
 * @throws ImageError, and what else an `ImageSource` throws
 */
export function imageReader(c: Context<EdgeEnv>, { images }: Pick<EdgeDeps, 'images'>, url: string) {
  const tenant = c.get('tenant')
  const granted = (uri: string) => assertGranted(tenant, 'read', uri, 'image_url')
  return async (): Promise<Uint8Array> => {
    const image = await images(url, { granted, signal: c.req.raw.signal })
    checkImage(image, 'image_url')
    return image
  }
}

/** A number that came as text. What is no number stays text, for the schema to refuse by name. */
export const fromText = <Schema extends z.ZodType>(schema: Schema) =>
  z.preprocess((text) => (typeof text === 'string' && text.trim() !== '' ? Number(text) : text), schema)

/** A parameter that came once is text; one that came more often stays a list, for the schema to refuse. */
export const queryOf = (c: Context<EdgeEnv>) =>
  Object.fromEntries(
    Object.entries(c.req.queries()).map(([name, values]) => [name, values.length === 1 ? values[0] : values]),
  )
