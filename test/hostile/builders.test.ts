import { describe, expect, test } from 'vitest'
import { fakeEdge } from '../../edge/app.fixture.ts'
import { ImageError } from '../../edge/contract/errors.ts'
import { preprocess } from '../../processor/engine/preprocess.ts'
import { hostileLines } from './batch-lines.ts'
import { heavyImage } from './heavy-bodies.ts'
import { hostileImages } from './images.ts'
import { hostileForms, hostileJson, jsonRequests, jsonRoutes } from './json.ts'
import { slowRequests } from './slow-bodies.ts'

const model = { kind: 'squash', width: 224, height: 224, resample: 'bicubic' } as const
const decode = (bytes: Uint8Array) =>
  preprocess(bytes, model as Parameters<typeof preprocess>[1], new Uint8Array(224 * 224 * 3))

const small = hostileImages({ side: 64, files: 0.001 })
/** Files that lie about themselves; all others are pictures, and only large ones are dear. */
const lies = /TIFF (that leads|of 65,535|of 64 bits|of one column|whose|of endless)/

describe.each([...small.keys()])('%s', (name) => {
  test('is a picture, or refused as one', async () => {
    const outcome = await decode(await small.get(name)!()).then(
      () => 'decoded',
      (error: unknown) => error,
    )
    if (lies.test(name) && outcome !== 'decoded') expect(outcome).toBeInstanceOf(ImageError)
    else expect(outcome).toBe('decoded')
  })
})

test('a heavy image is a picture too, of the size that was asked for', async () => {
  const image = heavyImage(1_000_000)
  expect(image.length / 1_000_000).toBeCloseTo(1, 1)
  await decode(image)
})

test.each([...hostileJson, ...hostileForms])('%s has the size that was asked for', (_, build) => {
  expect(build(100_000).length / 100_000).toBeCloseTo(1, 1)
})

test('every line is one line', () => {
  for (const line of hostileLines(2000)) expect(line.includes('\n')).toBe(false)
})

/** Routes that take a body, from the public document; ids are replaced. */
async function documentedRoutes(): Promise<string[]> {
  const response = await fakeEdge().app.request('/openapi.json')
  const { paths } = (await response.json()) as { paths: Record<string, { post?: { requestBody?: unknown } }> }
  return Object.entries(paths).flatMap(([path, { post }]) => (post?.requestBody ? [path] : []))
}

test('every route with a body is attacked', async () => {
  const documented = await documentedRoutes()
  expect(documented.length).toBeGreaterThan(5)
  const missing = (paths: readonly string[]) =>
    documented.filter((route) => {
      const pattern = new RegExp(`^${route.replace(/\{\w+\}/g, '[^/]+')}$`)
      return !paths.some((path) => pattern.test(path))
    })
  expect(missing(slowRequests.map(({ path }) => path))).toEqual([])
  expect(missing(jsonRequests([4096]).map((ask) => ask().path))).toEqual([])
  expect(jsonRoutes.length).toBeGreaterThan(5)
})
