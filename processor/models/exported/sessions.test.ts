import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { dtypes, sessionFile, sessionFiles } from './sessions.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-sessions-'))
  await mkdir(join(folder, 'onnx'))
})
afterEach(() => rm(folder, { recursive: true }))
const add = (name: string) => writeFile(join(folder, 'onnx', name), '')

it.each([
  [['a.onnx', 'a_fp16.onnx'], undefined, 'a.onnx', 'fp32'],
  [['a_q4f16.onnx', 'a_quantized.onnx'], undefined, 'a_quantized.onnx', 'q8'],
  [['a.onnx', 'a_q4f16.onnx'], ['q4f16', 'fp32'], 'a_q4f16.onnx', 'q4f16'],
  [['a_int8.onnx', 'a_uint8.onnx', 'a_bnb4.onnx'], ['bnb4'], 'a_bnb4.onnx', 'bnb4'],
] as const)('of %j takes, as %j, %s', async (files, wanted, name, dtype) => {
  for (const file of files) await add(file)
  expect(await sessionFile(folder, 'a', wanted)).toEqual({ file: join(folder, 'onnx', name), dtype })
})

it('says what is there', async () => {
  await expect(sessionFile(folder, 'a')).rejects.toThrow(/a\.onnx is missing/)
  await add('a_q4.onnx')
  await add('a_fp16.onnx')
  await expect(sessionFile(folder, 'a', ['fp32'])).rejects.toThrow(
    /a as fp16, q4, and not as fp32.*--dtype fp32/,
  )
  await expect(sessionFile(join(folder, 'none'), 'a')).rejects.toMatchObject({ name: 'ModelFolderError' })
})

it('finds several, each in its own type', async () => {
  for (const file of ['a.onnx', 'b.onnx', 'b_q4.onnx']) await add(file)
  const files = await sessionFiles(folder, ['a', 'b'], { b: ['q4', ...dtypes] })
  expect([files.a.dtype, files.b.dtype]).toEqual(['fp32', 'q4'])
  await expect(sessionFiles(folder, ['a', 'c'])).rejects.toThrow(/c\.onnx is missing/)
})
