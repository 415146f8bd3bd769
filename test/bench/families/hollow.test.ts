import { statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
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
    await hollowFolder(from, out, 2048)
    const size = (folder: string, name: string) => statSync(join(folder, 'onnx', name)).size
    await fillFolder(out)
    const { family, encoder } = await openModel(out)
    const real = await openModel(from)
    expect({ family, encoder }).toEqual({ family: real.family, encoder: real.encoder })
    expect(size(out, 'random-weights.bin')).toBeGreaterThan(2048)
    for (const name of ['encoder_model.onnx', 'decoder_model_merged.onnx'])
      expect(size(out, name), name).toBeLessThan(0.7 * size(from, name))
  } finally {
    await rm(out, { recursive: true })
  }
})
