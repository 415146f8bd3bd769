import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { DtypeOptions } from './dtypes.ts'
import { sessionFiles } from './sessions.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-sessions-'))
  await mkdir(join(folder, 'onnx'))
})
afterEach(() => rm(folder, { recursive: true }))
const add = (name: string) => writeFile(join(folder, 'onnx', name), '')

it.each<[string[], DtypeOptions, string, string]>([
  [['a.onnx', 'a_fp16.onnx'], {}, 'a.onnx', 'fp32'],
  [['a.onnx', 'a_fp16.onnx'], { device: 'gpu' }, 'a_fp16.onnx', 'fp16'],
  [['a_q4f16.onnx', 'a_quantized.onnx'], {}, 'a_q4f16.onnx', 'q4f16'],
  [['a.onnx', 'a_q4f16.onnx'], { dtype: 'q4f16' }, 'a_q4f16.onnx', 'q4f16'],
  [['a_int8.onnx', 'a_uint8.onnx', 'a_bnb4.onnx'], { dtype: 'int8', device: 'gpu' }, 'a_int8.onnx', 'int8'],
])('of %j takes, as %j, %s', async (files, options, name, dtype) => {
  for (const file of files) await add(file)
  const file = join(folder, 'onnx', name)
  expect(await sessionFiles(folder, ['a'], options)).toEqual({ a: { file, dtype } })
})

it('says what is there', async () => {
  await expect(sessionFiles(folder, ['a'])).rejects.toThrow(/has no onnx\/a\.onnx, in no type/)
  await add('a_q4.onnx')
  await add('a_fp16.onnx')
  await expect(sessionFiles(folder, ['a'], { dtype: 'fp32' })).rejects.toThrow(
    /^\S+ has no onnx\/a\.onnx\. All of its sessions are there as fp16, q4\. .*--dtype fp32\.$/,
  )
  await expect(sessionFiles(join(folder, 'none'), ['a'])).rejects.toMatchObject({ name: 'ModelFolderError' })
})

it('takes one type for all where there is one, and else each its own', async () => {
  for (const file of ['a.onnx', 'a_q4.onnx', 'b_q4.onnx', 'b_fp16.onnx']) await add(file)
  const typesOf = async (names: string[]) =>
    Object.values(await sessionFiles(folder, names)).map(({ dtype }) => dtype)
  expect(await typesOf(['a', 'b'])).toEqual(['q4', 'q4'])
  await add('c_bnb4.onnx')
  expect(await typesOf(['a', 'b', 'c'])).toEqual(['fp32', 'q4', 'bnb4'])
  const stated = { 'transformers.js_config': { dtype: { a: 'q4', b: 'fp16', c: 'int8' } } }
  await writeFile(join(folder, 'config.json'), JSON.stringify(stated))
  expect(await typesOf(['a', 'b', 'c'])).toEqual(['q4', 'fp16', 'bnb4'])
})
