import { expect, test } from 'vitest'
import { receivedBody } from './s3-body.ts'

const read = (text: string, bytes?: number) =>
  new Response(
    receivedBody(new Blob([text]).stream(), { bytes, stallMs: 1000, toError: (error) => error as Error }),
  ).text()

test('a body that ends before what was announced is a broken one', async () => {
  expect(await read('whole', 5)).toBe('whole')
  expect(await read('any')).toBe('any')
  await expect(read('cut', 5)).rejects.toThrow('The body ended after 3 of 5 bytes.')
})
