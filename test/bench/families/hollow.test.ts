import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openModel } from '../../../processor/models/open-model.ts'
import { fillFolder, hollowFolder } from './hollow.ts'
import { tinyFolder } from './parity.ts'

test('a hollow folder is small, and opens once it is filled', async () => {
  const out = await mkdtemp(join(tmpdir(), 'turbine-hollow-'))
  try {
    const from = tinyFolder('vit-gpt2')
    await hollowFolder(from, out)
    await fillFolder(out)
    const { family, encoder } = await openModel(out)
    const real = await openModel(from)
    expect({ family, encoder }).toEqual({ family: real.family, encoder: real.encoder })
    for (const name of (await readdir(join(from, 'onnx'))).filter((name) => name.endsWith('.onnx')))
      expect((await stat(join(out, 'onnx', name))).size).toBeLessThan(2 ** 20)
  } finally {
    await rm(out, { recursive: true })
  }
})
