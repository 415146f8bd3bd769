import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Line, readLines } from './lines.ts'

async function arrayOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function linesOf(chunks: Uint8Array[]): Promise<Line[]> {
  return arrayOf(readLines(streamOf(chunks)))
}

async function* streamOf(chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks
}

const bytes = (text: string) => new TextEncoder().encode(text)

test('a line ends at a line feed, however the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: fc.constantFrom('a', 'é', '🐟', '\u2028', ' ') }), { maxLength: 6 }),
      fc.integer({ min: 1, max: 7 }),
      async (texts, size) => {
        const all = bytes(texts.map((text) => `${text}\n`).join(''))
        const chunks = Array.from({ length: Math.ceil(all.length / size) }, (_, i) =>
          all.subarray(i * size, (i + 1) * size),
        )
        const lines = await linesOf(chunks)
        expect(lines.map(({ text }) => text)).toEqual(texts)
        expect(lines.at(-1)?.end ?? 0).toBe(all.length)
      },
    ),
    { numRuns: 60 },
  )
})

test('a last line without a line end is told as such, with the bytes before it', async () => {
  const lines = await linesOf([bytes('one\r\ntwo')])
  expect(lines).toEqual([
    { text: 'one', number: 1, end: 5, whole: true },
    { text: 'two', number: 2, end: 8, whole: false },
  ])
})

test('a byte order mark is not part of the first line', async () => {
  expect((await linesOf([bytes('\uFEFFa\n')]))[0]!.text).toBe('a')
})
