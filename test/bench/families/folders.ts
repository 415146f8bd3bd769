import { execFile } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { benchFolder } from '../folders.ts'
import { fillFolder } from './hollow.ts'

const run = promisify(execFile)
const script = fileURLToPath(new URL('./make_folders.py', import.meta.url))

/** What the script needs beside Python. */
const install =
  'pip install torch torchvision transformers==4.57.1 onnx onnxruntime onnxscript optimum==2.1.0 optimum-onnx==0.1.0 timm pillow'

const there = (folder: string) => stat(folder).catch(() => undefined)

/**
 * A folder of a family in a size worth timing, with random weights, kept between runs; made by Python where it is not there.
 *
 * @returns the folder, or why there is none
 */
export async function largeFolder(
  name: string,
  python: string,
): Promise<{ folder: string } | { why: string }> {
  const parent = join(benchFolder, 'families')
  const folder = join(parent, name)
  if (await there(folder)) {
    await fillFolder(folder)
    return { folder }
  }
  try {
    await run(python, ['-c', 'import torch, transformers, optimum.exporters.onnx, timm'])
  } catch {
    return { why: `${python} has no PyTorch to make it with: ${install}` }
  }
  console.error(`making ${folder}`)
  await run(python, [script, parent, name], { maxBuffer: 2 ** 26 })
  return { folder }
}
