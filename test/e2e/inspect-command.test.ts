import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { beforeAll, expect, test } from 'vitest'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { PATCH, SIDE } from '../../infra/starter-model/scenes.ts'
import { loadTokenizer } from '../../processor/models/tokenizer.ts'
import { readSafetensorsHeader } from '../../processor/onnx/safetensors.ts'
import { perLayer, tokenCounts } from '../../processor/turbo/schedule.ts'
import { drawPictures, type Picture } from './pictures.ts'
import { completedOf, postImage, startService } from './service.ts'
import { runTurbine, temporaryFolder } from './turbine.ts'

const starter = bundledModel
/** Patches and CLS. */
const tokensIn = (SIDE / PATCH) ** 2 + 1

let folder: string
let picture: Picture
let layers: number

beforeAll(async () => {
  folder = await temporaryFolder()
  picture = (await drawPictures(1))[0]!
  layers = JSON.parse(await readFile(join(starter, 'config.json'), 'utf8')).vision_config.num_hidden_layers
  await writeFile(join(folder, 'scene.png'), picture.png)
  const photo = sharp(picture.png).resize(600, 400, { fit: 'fill' })
  await photo.jpeg().toFile(join(folder, 'photo.jpg'))
  await writeFile(join(folder, 'broken.jpg'), picture.jpeg.subarray(0, 500))
})

const inspect = (...args: string[]) => runTurbine(['inspect', ...args], { cwd: folder })

/** All tensors of a file that `turbine inspect` wrote. */
async function readTrace(name: string) {
  const file = join(folder, name)
  const bytes = await readFile(file)
  const header = await readSafetensorsHeader(file)
  const tensor = (tensorName: string) => {
    const { type, shape, offset, length } = header.get(tensorName)!
    return {
      type,
      shape,
      data: bytes.buffer.slice(bytes.byteOffset + offset, bytes.byteOffset + offset + length),
    }
  }
  const [pixels, tokens, sizes, source, ids] = ['pixels', 'tokens', 'sizes', 'source', 'ids'].map(tensor)
  return {
    names: [...header.keys()].sort(),
    layout: { pixels, tokens, sizes, source, ids },
    pixels: new Uint8Array(pixels!.data),
    tokens: new Float32Array(tokens!.data),
    sizes: [...new Float32Array(sizes!.data)],
    source: [...new BigInt64Array(source!.data)].map(Number),
    ids: [...new BigInt64Array(ids!.data)].map(Number),
  }
}

const captionIn = (line: string) => /"([^"]+)"/.exec(line)![1]!

test('r = 0 is the unpruned model: every token itself, and the caption that the service answers', async () => {
  const { code, stdout } = await inspect('scene.png', '--r', '0', '--out', 'unpruned')
  expect(code).toBe(0)
  expect(stdout).toMatch(
    /^scene\.png: (\d+) -> \1 tokens \(0\.0 % merged\), "a .+", unpruned\/scene\.safetensors\n$/,
  )
  const trace = await readTrace('unpruned/scene.safetensors')
  expect(trace.source).toEqual(Array.from({ length: tokensIn }, (_, token) => token))
  expect(trace.sizes).toEqual(new Array(tokensIn).fill(1))

  const tokenizer = await loadTokenizer(starter)
  expect(tokenizer.decode(trace.ids)).toBe(captionIn(stdout))
  const service = await startService({ dataDir: await temporaryFolder() })
  const image = await postImage(service, picture.png, { headers: { 'content-type': 'image/png' } })
  expect((await completedOf(image)).caption).toBe(captionIn(stdout))
})

test('merged tokens are accounted for, and the picture shows them', async () => {
  const { code, stdout } = await inspect(
    'scene.png',
    'photo.jpg',
    '--r',
    '16',
    '--out',
    'merged',
    '--picture',
  )
  expect(code).toBe(0)
  const tokensOut = tokenCounts(tokensIn, perLayer(16, layers)).at(-1)!
  for (const name of ['scene', 'photo']) {
    expect(stdout).toContain(`${tokensIn} -> ${tokensOut} tokens`)
    const { names, layout, ...trace } = await readTrace(`merged/${name}.safetensors`)
    expect(names).toEqual(['ids', 'pixels', 'sizes', 'source', 'tokens'])
    expect(layout.pixels).toMatchObject({ type: 'U8', shape: [SIDE, SIDE, 3] })
    expect(layout.tokens).toMatchObject({ type: 'F32', shape: [tokensOut, expect.any(Number)] })
    expect(layout.sizes).toMatchObject({ type: 'F32', shape: [tokensOut] })
    expect(layout.source).toMatchObject({ type: 'I64', shape: [tokensIn] })
    expect(layout.ids).toMatchObject({ type: 'I64', shape: [trace.ids.length] })
    expect(trace.tokens.every(Number.isFinite)).toBe(true)

    const held = new Array<number>(tokensOut).fill(0)
    for (const token of trace.source) held[token]!++
    expect(trace.sizes).toEqual(held)
    expect(Math.min(...held)).toBeGreaterThan(0)
    // CLS stays by itself and stays first.
    expect([trace.source[0], held[0]]).toEqual([0, 1])

    const drawn = await sharp(join(folder, 'merged', `${name}.png`)).metadata()
    expect(drawn.width).toBe(drawn.height)
    expect(drawn.width % SIDE).toBe(0)
    expect(drawn.width).toBeGreaterThanOrEqual(600)
  }
})

test("an image of the model's size is not resampled", async () => {
  const { pixels } = await readTrace('merged/scene.safetensors')
  expect(Buffer.compare(pixels, picture.pixels)).toBe(0)
})

test('a list of r, a mode and a threshold are what the encoder is run with', async () => {
  const r = [40, 0, 30, 7]
  await inspect('scene.png', '--r', r.join(), '--mode', 'tome', '--threshold', '130', '--out', 'list')
  const { sizes } = await readTrace('list/scene.safetensors')
  expect(sizes).toHaveLength(tokenCounts(tokensIn, perLayer(r, layers), 130).at(-1)!)
})

test('a broken image is told, and the others are written', async () => {
  const { code, stdout, stderr } = await inspect('broken.jpg', 'scene.png', '--r', '8', '--out', 'mixed')
  expect(code).toBe(1)
  expect(stdout).toMatch(/^scene\.png: [^\n]+\n$/)
  expect(stderr).toMatch(
    /^broken\.jpg: The image is truncated[^\n]+\nturbine: 1 image could not be inspected\.\n$/,
  )
  expect((await readTrace('mixed/scene.safetensors')).source).toHaveLength(tokensIn)
})
