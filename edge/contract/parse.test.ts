import { z } from '@hono/zod-openapi'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { captionRequestSchema } from './caption.ts'
import { TurbineError } from './errors.ts'
import { generationNames } from './generation.ts'
import { parse } from './parse.ts'

const image_url = 'data:image/png;base64,AAAA'

test('a good value comes back typed', () => {
  const request = { image_url, prompt: 'a photo of', turbine: { max_prune: 0, deadline_ms: 100 } }
  expect(parse(captionRequestSchema, request)).toEqual(request)
})

test.each([
  [
    {},
    'image_url',
    'missing_required_parameter',
    '"image_url" is missing. It must be a non-empty string or an object with the fields url, detail.',
  ],
  [{ image_url: '' }, 'image_url', 'invalid_value', '"image_url" must be a non-empty string, got "".'],
  [
    { image_url: 5 },
    'image_url',
    'invalid_type',
    '"image_url" must be a non-empty string or an object with the fields url, detail, got 5.',
  ],
  [
    { image_url, turbine: { max_prune: 1.5 } },
    'turbine.max_prune',
    'invalid_value',
    '"turbine.max_prune" must be a number from 0 to 1, got 1.5.',
  ],
  [
    { image_url, turbine: { max_prune: null } },
    'turbine.max_prune',
    'invalid_type',
    '"turbine.max_prune" must be a number from 0 to 1, got null.',
  ],
  [
    { image_url, turbine: { deadline_ms: 1.5 } },
    'turbine.deadline_ms',
    'invalid_type',
    '"turbine.deadline_ms" must be an integer from 1 to 86400000, got 1.5.',
  ],
  [
    { image_url, prompt: 'x'.repeat(100_001) },
    'prompt',
    'invalid_value',
    '"prompt" must be a string of at most 100000 characters, got a string of 100001 characters.',
  ],
  [
    { image_url, turbine: [] },
    'turbine',
    'invalid_type',
    '"turbine" must be an object with the fields max_prune, deadline_ms, task, max_pixels, got an empty array.',
  ],
  [
    { image_url, max_prune: 1 },
    'max_prune',
    'unknown_parameter',
    `Unknown field "max_prune". Allowed: image_url, model, prompt, max_tokens, stop, ${generationNames.join(', ')}, turbine.`,
  ],
  [
    { image_url, turbine: { prune: 1 } },
    'turbine.prune',
    'unknown_parameter',
    'Unknown field "turbine.prune". Allowed: max_prune, deadline_ms, task, max_pixels.',
  ],
])('%j is refused at %s', (value, param, code, message) => {
  expect(() => parse(captionRequestSchema, value)).toThrow(
    expect.objectContaining({ status: 400, code, param, message }),
  )
})

test('of a list that is too long the length is told', () => {
  expect(() => parse(captionRequestSchema, { image_url: 'x', stop: ['a', 'b', 'c', 'd', 'e'] })).toThrow(
    '"stop" must be an array of at most 4 items, got an array of 5 items.',
  )
})

test('a value that is no object is refused as the request', () => {
  expect(() => parse(captionRequestSchema, [1])).toThrow(
    `The request must be an object with the fields image_url, model, prompt, max_tokens, stop, ${generationNames.join(', ')}, turbine, got an array of 1 item.`,
  )
})

test('the choices of an enumeration are named, also inside lists', () => {
  const schema = z.object({ tags: z.array(z.enum(['red', 'blue'])) })
  expect(() => parse(schema, { tags: ['red', 'green'] })).toThrow(
    '"tags.1" must be one of "red", "blue", got "green".',
  )
})

test('any JSON is a request or a short error that names a field', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      try {
        parse(captionRequestSchema, value)
      } catch (error) {
        expect(error).toBeInstanceOf(TurbineError)
        expect((error as TurbineError).message.length).toBeLessThan(300)
      }
    }),
  )
})

const nullable = z.object({
  pairs: z.record(z.string(), z.string()).nullish(),
  window: z.object({ seconds: z.int().min(1).max(9) }).nullish(),
  count: z.literal(1).nullish(),
})

test.each([
  [{ pairs: { a: 1 } }, '"pairs.a" must be a string, got 1.'],
  [{ window: { seconds: 0 } }, '"window.seconds" must be an integer from 1 to 9, got 0.'],
  [{ count: 2 }, '"count" must be 1, got 2.'],
])('%j: what may be null, and the names that a record has, are looked through', (value, message) => {
  expect(() => parse(nullable, value)).toThrow(message)
})
