import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { EdgeEnv } from '../deps.ts'

/** A number that came as text. What is no number stays text, for the schema to refuse by name. */
export const fromText = <Schema extends z.ZodType>(schema: Schema) =>
  z.preprocess((text) => (typeof text === 'string' && text.trim() !== '' ? Number(text) : text), schema)

/** A parameter that came once is text; one that came more often stays a list, for the schema to refuse. */
export const queryOf = (c: Context<EdgeEnv>) =>
  Object.fromEntries(
    Object.entries(c.req.queries()).map(([name, values]) => [name, values.length === 1 ? values[0] : values]),
  )
