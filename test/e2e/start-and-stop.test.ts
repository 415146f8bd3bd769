import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { openDirectoryStore } from '../../infra/store/directory.ts'
import { drawPictures, type Picture } from './pictures.ts'
import {
  captionOf,
  completedOf,
  errorOf,
  finished,
  getCaption,
  metric,
  postAsync,
  postImage,
  type Service,
  startService,
} from './service.ts'
import { runTurbine, temporaryFolder } from './turbine.ts'

const tinyModel = fileURLToPath(new URL('../fixtures/tiny-blip', import.meta.url))

let pictures: Picture[]
beforeAll(async () => {
  pictures = await drawPictures(16)
})

describe('a start that cannot be is one line and exit code 1', () => {
  /** Starts the service with a copy of a model folder that was changed. */
  async function startWithModel(change: (folder: string) => Promise<unknown>) {
    const folder = await temporaryFolder()
    const model = join(folder, 'model')
    await cp(tinyModel, model, { recursive: true })
    await change(model)
    return runTurbine(['serve', '--port', '0', '--data-dir', join(folder, 'data'), '--model', model])
  }

  /** Rewrites the header of a safetensors file as text, its length kept by spaces at the end. */
  async function editWeights(model: string, edit: (header: string) => string) {
    const file = join(model, 'model.safetensors')
    const bytes = await readFile(file)
    const length = Number(bytes.readBigUInt64LE())
    const header = edit(bytes.toString('utf8', 8, 8 + length))
    expect(header).not.toBe(bytes.toString('utf8', 8, 8 + length))
    expect(header.length).toBeLessThanOrEqual(length)
    bytes.write(header.padEnd(length), 8)
    await writeFile(file, bytes)
  }

  const embedding = 'vision_model.embeddings.class_embedding'
  const swapShape = (header: string) =>
    header.replace(/(layers\.0\.mlp\.fc1\.weight":\{[^}]*"shape":\[)(\d+),(\d+)/, '$1$3,$2')

  test.each<[string, (model: string) => Promise<unknown>, RegExp]>([
    ['no config.json', (model) => rm(join(model, 'config.json')), /config\.json is missing/],
    ['no weights', (model) => rm(join(model, 'model.safetensors')), /model\.safetensors cannot be read/],
    ['no preprocessor', (model) => rm(join(model, 'preprocessor_config.json')), /preprocessor_config\.json/],
    [
      'no vocabulary',
      async (model) => {
        await rm(join(model, 'tokenizer.json'))
        await rm(join(model, 'vocab.txt'))
      },
      /tokenizer\.json|vocab\.txt/,
    ],
    [
      'a lacking tensor',
      (model) =>
        editWeights(model, (header) => header.replace(embedding, embedding.replace('class', 'other'))),
      /lacks the tensor vision_model\.embeddings\.class_embedding \[1, 1, 32\]/,
    ],
    [
      'a tensor of another shape',
      (model) => editWeights(model, swapShape),
      /tensor vision_model\.encoder\.layers\.0\.mlp\.fc1\.weight has shape \[32, 48\], but config\.json asks for \[48, 32\]/,
    ],
    [
      'weights that are cut off',
      async (model) => {
        const file = join(model, 'model.safetensors')
        await writeFile(file, (await readFile(file)).subarray(0, -1000))
      },
      /cut short/,
    ],
    [
      'another family',
      (model) => writeFile(join(model, 'config.json'), '{"model_type": "llama"}'),
      /model_type is "llama"; supported: blip/,
    ],
  ])('%s', async (_, change, message) => {
    const { code, stdout, stderr } = await startWithModel(change)
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^turbine: [^\n]+\n$/)
    expect(stderr).toMatch(message)
  })

  test.each([
    [
      'gpt-4o-mini=other',
      /"gpt-4o-mini" stands for "other", which is not served\. Served: turbine-starter\./,
    ],
    ['a=b,b=a', /"a" stands for "b", which is an alias itself/],
  ])('an alias that leads nowhere: %s', async (aliases, message) => {
    const args = ['serve', '--port', '0', '--data-dir', await temporaryFolder(), '--log-level', 'error']
    const { code, stderr } = await runTurbine(args, { env: { TURBINE_MODEL_ALIASES: aliases } })
    expect(code).toBeGreaterThan(0)
    expect(stderr).toMatch(/^turbine: [^\n]+\n$/)
    expect(stderr).toMatch(message)
  })

  test('a device that is not there', async () => {
    const args = ['serve', '--port', '0', '--data-dir', await temporaryFolder(), '--device', 'cuda:7']
    const { code, stderr } = await runTurbine(args)
    expect(code).toBe(1)
    expect(stderr).toMatch(/^turbine: [^\n]*cuda:7[^\n]+\n$/)
  })

  test('a port and a data folder that are taken', async () => {
    const dataDir = await temporaryFolder()
    const { url } = await startService({ dataDir, args: ['--model', tinyModel] })
    const { port } = new URL(url)
    const other = await temporaryFolder()
    const samePort = await runTurbine(['serve', '--port', port, '--data-dir', other, '--model', tinyModel])
    expect(samePort).toMatchObject({ code: 1, stdout: '' })
    expect(samePort.stderr).toMatch(
      new RegExp(`\\nturbine: Port ${port} on 127.0.0.1 is in use\\. [^\\n]+\\n$`),
    )
    const sameFolder = await runTurbine(['serve', '--port', '0', '--data-dir', dataDir, '--model', tinyModel])
    expect(sameFolder).toMatchObject({ code: 1, stdout: '' })
    expect(sameFolder.stderr).toMatch(/^turbine: [^\n]+ is in use by another process\. [^\n]+\n$/)
    expect((await fetch(`${url}/health/ready`)).status).toBe(200)
  })
})

/** Patient enough that none is turned away for what else the machine does. */
const ask = (service: Service) =>
  pictures.map(({ jpeg }) => postImage(service, jpeg, { query: { deadline_ms: 24_000 } }))

/** What lies in the store of a service that has ended. */
async function storedKeys(dataDir: string): Promise<string[]> {
  const store = await openDirectoryStore(join(dataDir, 'store'))
  const { objects } = await store.list('captions/')
  await store.close()
  return objects.map(({ key }) => key)
}

test('after SIGTERM whoever waits gets an answer and accepted work is finished', async () => {
  const dataDir = await temporaryFolder()
  const service = await startService({ dataDir })
  const large = new Uint8Array(1024 * 1024)
  large.set(pictures[0]!.jpeg)
  const images = [large, ...pictures.map(({ jpeg }) => jpeg)]
  const accepted = await Promise.all(images.map((image) => postAsync(service, image)))
  const waiting = ask(service)
  await Promise.race(waiting)
  service.turbine.kill('SIGTERM')
  for (const response of await Promise.all(waiting)) {
    // What came after the signal is turned away, and may be sent again.
    if (response.status === 503) expect(await errorOf(response)).toMatchObject({ code: 'shutting_down' })
    else expect(await completedOf(response)).toMatchObject({ caption: expect.stringMatching(/^a /) })
  }
  expect(await service.turbine.exited).toEqual({ code: 0, signal: null })
  expect(service.turbine.stderr).not.toMatch(/"level":"(warn|error|fatal)"/)
  expect(await storedKeys(dataDir)).not.toContainEqual(expect.stringMatching(/\.image$/))

  const next = await startService({ dataDir })
  for (const id of accepted) await completedOf(await getCaption(next, id))
  expect(await metric(next, 'turbine_images_total')).toBe(1)
})

test('what is not done within the time to shut down is done after the next start', async () => {
  const dataDir = await temporaryFolder()
  const service = await startService({ dataDir, args: ['--shutdown-ms', '0'] })
  const accepted = await Promise.all(pictures.map(({ jpeg }) => postAsync(service, jpeg)))
  const waiting = ask(service)
  await Promise.race(waiting)
  service.turbine.kill('SIGINT')
  for (const response of await Promise.all(waiting)) {
    if (response.status === 503) continue
    const { status, id } = await captionOf(response)
    expect(status).toBe(response.status === 200 ? 'completed' : 'queued')
    accepted.push(id)
  }
  expect(await service.turbine.exited).toEqual({ code: 0, signal: null })

  const next = await startService({ dataDir })
  for (const id of accepted) await completedOf(await finished(next, id))
})

test('a second signal ends it at once', async () => {
  const service = await startService({ dataDir: await temporaryFolder() })
  await Promise.all(pictures.map(({ jpeg }) => postAsync(service, jpeg)))
  service.turbine.kill('SIGINT')
  service.turbine.kill('SIGTERM')
  // Signals that are pending together may arrive in either order.
  const signal = expect.stringMatching(/^SIG(INT|TERM)$/)
  expect(await service.turbine.exited).toEqual({ code: null, signal })
})
