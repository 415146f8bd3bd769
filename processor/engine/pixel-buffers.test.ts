import { describe, expect, it } from 'vitest'
import { PixelBuffers } from './pixel-buffers.ts'

const image = { kind: 'squash', height: 2, width: 3, resample: 'bicubic' } as const

describe('PixelBuffers', () => {
  it('lends shared memory for a batch, an image a row', () => {
    const slot = new PixelBuffers(image, 4).take()
    expect(slot.pixels.buffer).toBeInstanceOf(SharedArrayBuffer)
    expect(slot.pixels.length).toBe(4 * 18)
    slot.row(2).fill(7)
    expect(slot.pixels.indexOf(7)).toBe(36)
    expect(slot.pixels.lastIndexOf(7)).toBe(53)
  })

  it('uses memory again', () => {
    const buffers = new PixelBuffers(image, 1)
    for (let i = 0; i < 1000; i++) {
      const slots = [buffers.take(), buffers.take()]
      for (const slot of slots) slot.release()
    }
    expect(buffers.allocated).toBe(2)
  })

  it('never lends the same memory twice, even when a slot is released twice', () => {
    const buffers = new PixelBuffers(image, 1)
    const slot = buffers.take()
    slot.release()
    slot.release()
    expect(buffers.take().pixels.buffer).not.toBe(buffers.take().pixels.buffer)
  })
})
