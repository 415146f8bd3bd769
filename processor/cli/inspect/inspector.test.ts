import { afterEach, expect, it } from 'vitest'
import { openModel } from '../../models/open-model.ts'
import { referenceOf } from '../../models/reference.fixture.ts'
import { perLayer, tokenCounts } from '../../turbo/schedule.ts'
import { UsageError } from '../errors.ts'
import type { Inspector, Trace, TraceOptions } from './command.ts'
import { openInspector, sizesOf } from './inspector.ts'
import { drawTiles } from './merge-picture.ts'

const device = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const options: TraceOptions = { r: 8, alpha: 5, beta: 1, gamma: 0, threshold: 20, mode: 'turbo' }

let inspector: Inspector | undefined
afterEach(async () => {
  await inspector?.close()
  inspector = undefined
})

async function traceOf(name: string, more: { prompt?: string; view?: string } & Partial<TraceOptions> = {}) {
  const { prompt, view, ...asked } = more
  const reference = referenceOf(name)
  const model = await openModel(reference.folder)
  inspector = await openInspector({ model, device, intraOpThreads: 1, prompt })
  const views = Object.entries(reference.views)
  const [, chosen] = views.find(([key]) => key === view) ?? views[0]!
  const image = reference.picture(chosen)
  return { model, trace: await inspector.trace(image, { ...options, ...asked }) }
}

/** Tokens that each final one holds, counted. */
const held = ({ source, tiles = { count: 1, rows: 0, cols: 0 } }: Trace) => [...sizesOf(source, tiles.count)]

it.each([
  ['smolvlm', 64],
  ['llava', 65],
  ['vit-gpt2', 65],
])('follows each token of %s to the one that holds it', async (name, tokens) => {
  const { model, trace } = await traceOf(name)
  const tiles = trace.tiles?.count ?? 1
  const kept = tokenCounts(tokens, perLayer(8, model.encoder.layers), 20).at(-1)!
  expect(kept).toBeLessThan(tokens)
  expect([trace.source.length, trace.sizes.length]).toEqual([tiles * tokens, tiles * kept])
  expect(held(trace)).toEqual([...trace.sizes])
  expect(Math.min(...trace.sizes)).toBe(1)
  expect(trace.tokens!.data.every(Number.isFinite)).toBe(true)
  expect([trace.caption.length > 0, trace.ids.length > 0]).toEqual([true, true])
  expect(trace.pixels).toHaveLength(tiles * trace.height * trace.width * 3)
})

it('draws the tiles of a picture in their places, and the whole below', async () => {
  const { trace } = await traceOf('smolvlm')
  const { count, rows, cols } = trace.tiles!
  expect(count).toBe(rows * cols + 1)
  const plain = drawTiles({ ...trace, patch: undefined }, { scale: 1 })
  expect([plain.height, plain.width]).toEqual([(rows + 1) * trace.height, cols * trace.width])
  // A pixel of the last tile, and one of the whole picture.
  const at = (y: number, x: number) => [...plain.pixels.subarray((y * plain.width + x) * 3).subarray(0, 3)]
  const pixel = (tile: number, y: number, x: number) => [
    ...trace.pixels.subarray(((tile * trace.height + y) * trace.width + x) * 3).subarray(0, 3),
  ]
  expect(at((rows - 1) * trace.height + 5, (cols - 1) * trace.width + 9)).toEqual(
    pixel(rows * cols - 1, 5, 9),
  )
  expect(at(rows * trace.height + 5, 9)).toEqual(pixel(rows * cols, 5, 9))
  expect(drawTiles(trace, { scale: 1 }).pixels).not.toEqual(plain.pixels)
})

it('asks what it is told to', async () => {
  const ids = async (prompt?: string) => [...(await traceOf('smolvlm', { prompt })).trace.ids]
  expect(await ids('What colour is it?')).not.toEqual(await ids())
})

it("gives a tagger's scores and tags", async () => {
  const { model, trace } = await traceOf('wd-tagger')
  expect(trace.tokens).toBeUndefined()
  expect(trace.scores).toHaveLength(39)
  expect(trace.caption).toBe(model.describe!(trace.scores!).caption)
  expect(trace.source).toHaveLength(64)
  expect(trace.sizes.length).toBeLessThan(64)
})

it.each([
  ['qwen2-vl', 'rotary'],
  ['florence2', ''],
])('says of %s that nothing merges, and shows what it saw', async (name, reason) => {
  const { trace } = await traceOf(name)
  expect(inspector!.note).toMatch(
    new RegExp(`^Turbo has no place in ${name} \\(.*${reason}.*\\): nothing merges\\.$`),
  )
  expect([...trace.source]).toEqual(Array.from({ length: trace.source.length }, (_, token) => BigInt(token)))
  expect(new Set(trace.sizes)).toEqual(new Set([1]))
  expect(trace.pixels).toHaveLength(trace.height * trace.width * 3)
  expect(trace.caption).not.toBe('')
})

it('refuses scores that only BLIP has', async () => {
  await expect(traceOf('llava', { mode: 'random' })).rejects.toThrow(UsageError)
})
