import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { writeBody } from './file-body.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-body-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** A file that holds `old bytes` and into which the body is then written. */
async function written(name: string, body: string | ReadableStream<Uint8Array> | null, start: number) {
  const path = join(folder, name)
  const file = await open(path, 'w')
  await file.write('old bytes')
  const onBytes = vi.fn()
  const result = await writeBody(file, new Response(body), { start, onBytes })
  await file.close()
  return { result, onBytes, text: await readFile(path, 'utf8') }
}

test('a body goes behind what is there, or in its place', async () => {
  const behind = await written('behind', ' and new', 9)
  expect(behind).toMatchObject({ result: { end: 17 }, text: 'old bytes and new' })
  expect(behind.onBytes.mock.calls.at(-1)).toEqual([17])
  expect(await written('instead', 'new', 0)).toMatchObject({ result: { end: 3 }, text: 'new' })
  expect(await written('empty', null, 4)).toMatchObject({ result: { end: 4 }, text: 'old ' })
})

test('what came before a connection broke stays', async () => {
  const broken = new Error('broken')
  const chunks = [new TextEncoder().encode('some')]
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const chunk = chunks.shift()
      if (chunk) controller.enqueue(chunk)
      else controller.error(broken)
    },
  })
  const { result, text } = await written('broken', body, 0)
  expect(result).toEqual({ end: 4, broken })
  expect(text).toBe('some')
})

test('a body that goes on beyond the end that it may have is left there', async () => {
  let cancelled = false
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(1000)),
    cancel: () => {
      cancelled = true
    },
  })
  const file = await open(join(folder, 'endless'), 'w')
  const result = await writeBody(file, new Response(body), { start: 0, maxEnd: 2500 })
  await file.close()
  expect(result).toEqual({ end: 2000, tooLong: true })
  expect(cancelled).toBe(true)
})

test('a body that cannot be written is cancelled', async () => {
  let cancelled = false
  const body = new ReadableStream<Uint8Array>({
    cancel() {
      cancelled = true
    },
  })
  const file = await open(join(folder, 'closed'), 'w')
  await file.close()
  await expect(writeBody(file, new Response(body), { start: 0 })).rejects.toThrow('file closed')
  expect(cancelled).toBe(true)
})
