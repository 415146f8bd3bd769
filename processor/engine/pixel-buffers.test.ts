import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PixelBuffers, sizeClass } from './pixel-buffers.ts'

describe('PixelBuffers', () => {
  it('lends shared memory of the size asked for', () => {
    const { pixels } = new PixelBuffers().take(18)
    expect(pixels.buffer).toBeInstanceOf(SharedArrayBuffer)
    expect(pixels.length).toBe(18)
  })

  it('uses memory again, for sizes that are about the same', () => {
    const buffers = new PixelBuffers()
    for (let i = 0; i < 1000; i++) {
      const slots = [buffers.take(1000 - (i % 20)), buffers.take(300)]
      for (const slot of slots) slot.release()
    }
    expect(buffers.allocated).toBe(2)
  })

  it('lets go of free memory beyond a bound', () => {
    const buffers = new PixelBuffers({ keptBytes: 2048 })
    const slots = [1024, 1024, 1024].map((bytes) => buffers.take(bytes))
    for (const slot of slots) slot.release()
    for (let i = 0; i < 3; i++) buffers.take(1024)
    expect(buffers.allocated).toBe(4)
  })

  it('never lends the same memory twice, even when a slot is released twice', () => {
    const buffers = new PixelBuffers()
    const slot = buffers.take(8)
    slot.release()
    slot.release()
    expect(buffers.take(8).pixels.buffer).not.toBe(buffers.take(8).pixels.buffer)
  })
})

it('a class has room for its sizes, and wastes an eighth at most', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 31 }), (bytes) => {
      const size = sizeClass(bytes)
      expect(size).toBeGreaterThanOrEqual(bytes)
      expect(size).toBeLessThanOrEqual(Math.ceil(bytes * 1.125))
      expect(sizeClass(size)).toBe(size)
    }),
  )
})
