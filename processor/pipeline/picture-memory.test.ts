import { readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { mostPictureBytes, type PictureRule, pictureBytes, shapeOf } from '../models/pictures.ts'
import { estimatedBytes, PictureMemory, pictureMemory } from './picture-memory.ts'

const MiB = 1024 ** 2

describe('pictureMemory', () => {
  it('is a quarter of what the process may use, at most 2 GiB, or what is set', () => {
    expect(pictureMemory(0, 1024 * MiB)).toBe(256 * MiB)
    expect(pictureMemory(0, 1024 ** 4)).toBe(2048 * MiB)
    expect(pictureMemory(3, 1024 * MiB)).toBe(3 * MiB)
  })
})

describe('PictureMemory', () => {
  /** Asks, and notes when it is granted. */
  function ask(memory: PictureMemory, owner: string, bytes: number, lane: 'interactive' | 'batch' = 'batch') {
    const state = { granted: false, release: () => {} }
    void memory.reserve({ lane, owner, bytes }).then(({ release }) => {
      state.granted = true
      state.release = release
    })
    return state
  }

  it('leaves room for other owners, and for the other lane', async () => {
    const memory = new PictureMemory(200)
    const greedy = Array.from({ length: 9 }, () => ask(memory, 'greedy', 10))
    await setImmediate()
    expect(greedy.filter(({ granted }) => granted)).toHaveLength(5)
    expect(memory.reserved('batch')).toBe(50)
    expect(memory.tryReserve({ lane: 'batch', owner: 'greedy', bytes: 10 })).toBeUndefined()
    const [other, interactive] = [ask(memory, 'other', 10), ask(memory, 'greedy', 50, 'interactive')]
    await setImmediate()
    expect([other.granted, interactive.granted]).toEqual([true, true])
  })

  it('gives what comes free to the owner that holds the least', async () => {
    const memory = new PictureMemory(80)
    const [first] = [ask(memory, 'a', 20), ask(memory, 'b', 10), ask(memory, 'c', 5)]
    const [more, next] = [ask(memory, 'a', 5), ask(memory, 'd', 10)]
    await setImmediate()
    expect([more.granted, next.granted]).toEqual([false, false])
    first.release()
    await setImmediate()
    expect(next.granted).toBe(true)
  })

  it('takes a caption that is larger than a share once its owner has nothing else', async () => {
    const memory = new PictureMemory(40)
    const [small, large] = [ask(memory, 'a', 4), ask(memory, 'a', 1000)]
    await setImmediate()
    expect([small.granted, large.granted]).toEqual([true, false])
    small.release()
    await setImmediate()
    expect([large.granted, memory.reserved('batch')]).toEqual([true, 10])
  })

  it('is left by who goes away', async () => {
    const memory = new PictureMemory(40)
    ask(memory, 'a', 10)
    const gone = new AbortController()
    const waiting = memory.reserve({ lane: 'batch', owner: 'a', bytes: 10, signal: gone.signal })
    gone.abort(new Error('gone'))
    await expect(waiting).rejects.toThrow('gone')
    expect(memory.reserved('batch')).toBe(10)
  })
})

describe('estimatedBytes', () => {
  const picture = (name: string) =>
    readFileSync(new URL(`../../test/fixtures/models/pictures/${name}.png`, import.meta.url))
  const resample = 'bicubic'
  const tiles: PictureRule = { kind: 'tiles', longestEdge: 256, tile: 64, split: true, resample }
  const patches: PictureRule = {
    kind: 'patches',
    patch: 8,
    merge: 2,
    minPixels: 256,
    maxPixels: 9216,
    resample,
  }
  const crop: PictureRule = { kind: 'crop', shortest: 32, height: 32, width: 32, resample }

  it.each([
    ['tiles', tiles],
    ['patches', patches],
    ['crop', crop],
  ])('is what the pixels take: %s', (_, rule) => {
    for (const name of ['landscape', 'portrait', 'wide', 'tiny', 'odd']) {
      const bytes = picture(name)
      const [width, height] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)]
      const real = pictureBytes(rule, shapeOf(rule, width, height))
      expect(estimatedBytes(rule, bytes)).toBeGreaterThanOrEqual(real)
      expect(estimatedBytes(rule, bytes)).toBeLessThanOrEqual(1.5 * real)
    }
  })

  it('is the most that any takes without a readable header', () => {
    const unknown = Buffer.from('not an image')
    expect(estimatedBytes(tiles, unknown)).toBe(mostPictureBytes(tiles))
    expect(estimatedBytes(crop, unknown)).toBe(32 * 32 * 3)
  })

  it('is nothing for one that the model refuses', () => {
    const line = Buffer.from(picture('tiny'))
    line.writeUInt32BE(4000, 16)
    line.writeUInt32BE(3, 20)
    expect(estimatedBytes(patches, line)).toBe(0)
  })
})
