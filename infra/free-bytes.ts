/** Fewer are not worth it: a process that has never detached a buffer is faster at all of them. */
const fewBytes = 32 * 1024

/**
 * Frees bytes that nothing uses any more at once, if they are the whole of their buffer. What is left to the garbage collector
 * makes it collect all of the heap whenever some 64 MB of bodies have been read, which takes the processors from all else.
 * @example
 * whole.set(chunk, at)
 * freeBytes(chunk)
 */
export function freeBytes({ buffer, byteLength }: Uint8Array): void {
  if (byteLength < fewBytes || buffer.byteLength !== byteLength || !(buffer instanceof ArrayBuffer)) return
  buffer.transfer(0)
}
