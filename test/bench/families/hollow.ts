/**
 * Folders of exported models without their large weights, a few MB that any machine fills with numbers of its own: for timing.
 *
 * node test/bench/families/hollow.ts FOLDER OUT
 */
import { cp, mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { dataTypes, decodeModel, encodeModel, type TensorProto } from '../../../processor/onnx/proto.ts'
import { readOnnx } from '../../../processor/onnx/read.ts'
import { tensorBytes } from '../../../processor/onnx/tensors.ts'
import { allTensors } from '../../../processor/onnx/visit.ts'

/** All large weights of a folder: each begins where it begins. */
const weightsFile = 'random-weights.bin'
/** Tensors of more bytes are left out. */
const large = 64 * 1024

const entryOf = ({ externalData }: TensorProto, key: string) =>
  externalData?.find((entry) => entry.key === key)?.value

/** Copies a folder with graphs that read their large weights from a file that is not there. */
export async function hollowFolder(folder: string, out: string): Promise<void> {
  await mkdir(join(out, 'onnx'), { recursive: true })
  for (const entry of await readdir(folder, { withFileTypes: true }))
    if (entry.isFile()) await cp(join(folder, entry.name), join(out, entry.name))
  for (const name of (await readdir(join(folder, 'onnx'))).filter((name) => name.endsWith('.onnx'))) {
    const model = readOnnx(join(folder, 'onnx', name))
    for (const tensor of allTensors(model)) await hollow(tensor, join(folder, 'onnx'))
    await writeFile(join(out, 'onnx', name), encodeModel(model))
  }
}

async function hollow(tensor: TensorProto, folder: string): Promise<void> {
  const location = entryOf(tensor, 'location')
  if (location === undefined) return
  const length = tensorBytes(tensor)!
  if (tensor.dataType === dataTypes.float32 && length > large) {
    tensor.externalData = [
      { key: 'location', value: weightsFile },
      { key: 'offset', value: '0' },
      { key: 'length', value: `${length}` },
    ]
    return
  }
  const file = await open(join(folder, location))
  const rawData = new Uint8Array(length)
  await file.read(rawData, 0, length, Number(entryOf(tensor, 'offset') ?? 0))
  await file.close()
  tensor.rawData = rawData
  delete tensor.externalData
  delete tensor.dataLocation
}

/** Makes the weights of a hollow folder, where they are missing: uniform, of deviation 0.03. */
export async function fillFolder(folder: string): Promise<void> {
  const file = join(folder, 'onnx', weightsFile)
  if (await stat(file).catch(() => undefined)) return
  const graphs = (await readdir(join(folder, 'onnx'))).filter((name) => name.endsWith('.onnx'))
  let most = 0
  for (const name of graphs)
    for (const length of await hollowLengths(join(folder, 'onnx', name))) most = Math.max(most, length)
  if (most === 0) return
  let state = 1
  const weights = Float32Array.from({ length: most / 4 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 31 - 1) * 0.052
  })
  await writeFile(file, new Uint8Array(weights.buffer))
}

/** Read without the checks of `readOnnx`, which wants the file to be there. */
async function hollowLengths(file: string): Promise<number[]> {
  const model = decodeModel(await readFile(file))
  return [...allTensors(model)]
    .filter((tensor) => entryOf(tensor, 'location') === weightsFile)
    .map((tensor) => Number(entryOf(tensor, 'length')))
}

if (import.meta.main) await hollowFolder(process.argv[2]!, process.argv[3]!)
