import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { CaptionModel, SelfTestOptions } from '../models/model.ts'
import { ModelFolderError } from '../onnx/weights.ts'
import { testOnce } from './self-test.ts'

const device = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
let folder: string
let weights: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-self-test-'))
  weights = join(folder, 'model.onnx')
  await writeFile(weights, 'weights')
})
afterEach(() => rm(folder, { recursive: true }))

function modelOf(result = async () => {}) {
  const tests: SelfTestOptions[] = []
  const model = {
    ...{ id: 'tiny', folder, levels: [], weightFiles: ['model.onnx'] },
    encoder: { tokens: 5, layers: 2, width: 1, mlpWidth: 1, heads: 1 },
    selfTest: (options: SelfTestOptions) => {
      tests.push(options)
      return result()
    },
  } as unknown as CaptionModel
  return { model, tests }
}

it('tests a model once, and again when its weights, device or graph are others', async () => {
  const notes = join(folder, 'notes')
  const { model, tests } = modelOf()
  const start = (options = {}) => testOnce(model, { device, folder: notes, ...options })
  await start()
  await start()
  expect(tests).toHaveLength(1)
  await start({ device: { name: 'cuda:0', provider: 'cuda', deviceId: 0 } })
  expect(tests[1]).toMatchObject({ graph: { gpu: true } })
  await start({ graph: { float16: true } })
  await utimes(weights, 1, 1)
  await start()
  expect(tests).toHaveLength(4)
  expect(await readdir(notes)).toHaveLength(4)
})

it('tests at each start where nothing can be noted', async () => {
  const { model, tests } = modelOf()
  await testOnce(model, { device })
  await testOnce(model, { device })
  const errors: unknown[] = []
  await testOnce(model, { device, folder: weights, onNoteError: (error) => errors.push(error) })
  expect(tests).toHaveLength(3)
  expect(errors).toHaveLength(1)
})

it('refuses a model that fails, at every start', async () => {
  const { model, tests } = modelOf(() => Promise.reject(new ModelFolderError('other ids')))
  for (let start = 0; start < 2; start++)
    await expect(testOnce(model, { device, folder: join(folder, 'notes') })).rejects.toThrow('other ids')
  expect(tests).toHaveLength(2)
})

it('has nothing to test of a model whose graph is its own', async () => {
  const { model } = modelOf()
  await testOnce({ ...model, selfTest: undefined, weightFiles: ['none'] }, { device, folder })
})
