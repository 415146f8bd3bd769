import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { invalid, TurbineError } from '../contract/errors.ts'
import { checkImage } from '../contract/image.ts'
import { assertGranted } from '../contract/tenant.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/** Maximum bytes of a JSON body without an image. */
export const maxJsonBytes = 1024 * 1024

/** @throws TurbineError `body_incomplete` */
export async function readBytes(c: Context<EdgeEnv>): Promise<Uint8Array> {
  try {
    return new Uint8Array(await c.req.arrayBuffer())
  } catch (cause) {
    throw new TurbineError('The body ended early. Retry the request.', {
      status: 400,
      code: 'body_incomplete',
      retriable: true,
      cause,
    })
  }
}

/**
 * Reads the body as JSON, not yet validated.
 * @param example valid body, for the error message
 * @throws TurbineError `body_incomplete`, `invalid_json`
 */
export async function readJson(c: Context<EdgeEnv>, example: object): Promise<unknown> {
  const text = new TextDecoder().decode(await readBytes(c))
  try {
    return JSON.parse(text)
  } catch (cause) {
    const message = `The body is not valid JSON. Send an object like ${JSON.stringify(example)}.`
    throw invalid('invalid_json', message, undefined, cause)
  }
}

/**
 * Makes a reader of the image at a URL in the request.
 * @returns a function that throws ImageError, and what else an `ImageSource` throws
 */
export function imageReader(c: Context<EdgeEnv>, { images }: Pick<EdgeDeps, 'images'>, url: string) {
  const tenant = c.get('tenant')
  const granted = (uri: string) => assertGranted(tenant, 'read', uri, 'image_url')
  return async (): Promise<Uint8Array> => {
    const image = await images(url, { owner: tenant.id, granted, signal: c.req.raw.signal })
    checkImage(image, 'image_url')
    return image
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
