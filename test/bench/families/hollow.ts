/**
 * Folders of exported models without their large weights, a few MB that any machine fills with numbers of its own: for timing.
 *
 * node test/bench/families/hollow.ts FOLDER OUT
 */
import { existsSync } from 'node:fs'
import { cp, mkdir, open, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { dataTypes, decodeModel, encodeModel, type TensorProto } from '../../../processor/onnx/proto.ts'
import { readOnnx } from '../../../processor/onnx/read.ts'
import { tensorBytes } from '../../../processor/onnx/tensors.ts'
import { allTensors } from '../../../processor/onnx/visit.ts'
import { randomBlock } from '../random-blip.ts'

/** All large weights of a folder. */
const weightsFile = 'random-weights.bin'
/** Each begins at a multiple. */
const alignment = 4096

const entryOf = ({ externalData }: TensorProto, key: string) =>
  externalData?.find((entry) => entry.key === key)?.value

/** None of a tagger, whose graph lies in the folder itself, with its weights in it. */
const graphsOf = async (folder: string) =>
  (existsSync(join(folder, 'onnx')) ? await readdir(join(folder, 'onnx')) : [])
    .filter((name) => name.endsWith('.onnx'))
    .map((name) => join(folder, 'onnx', name))

/** Copies a folder with graphs that read weights of more than `large` bytes from a file that is not there. */
export async function hollowFolder(folder: string, out: string, large = 64 * 1024): Promise<void> {
  await mkdir(join(out, 'onnx'), { recursive: true })
  for (const entry of await readdir(folder, { withFileTypes: true }))
    if (entry.isFile()) await cp(join(folder, entry.name), join(out, entry.name))
  const places = new Places()
  for (const graph of await graphsOf(folder)) {
    const model = readOnnx(graph)
    for (const tensor of allTensors(model)) {
      if (entryOf(tensor, 'location') === undefined) continue
      if (tensor.dataType === dataTypes.float32 && tensorBytes(tensor)! > large) places.give(tensor)
      else await putInside(tensor, dirname(graph))
    }
    await writeFile(join(out, 'onnx', basename(graph)), encodeModel(model))
  }
}

/** Where weights lie in the file that is not there; those that were one tensor stay one. */
class Places {
  readonly #known = new Map<string, number>()
  #end = 0

  give(tensor: TensorProto): void {
    const length = tensorBytes(tensor)!
    const key = `${entryOf(tensor, 'location')} ${entryOf(tensor, 'offset')} ${length}`
    const offset = this.#known.get(key) ?? this.#end
    this.#known.set(key, offset)
    this.#end = Math.max(this.#end, Math.ceil((offset + length) / alignment) * alignment)
    tensor.externalData = [
      { key: 'location', value: weightsFile },
      { key: 'offset', value: `${offset}` },
      { key: 'length', value: `${length}` },
    ]
  }
}

async function putInside(tensor: TensorProto, folder: string): Promise<void> {
  const file = await open(join(folder, entryOf(tensor, 'location')!))
  const rawData = new Uint8Array(tensorBytes(tensor)!)
  await file.read(rawData, 0, rawData.length, Number(entryOf(tensor, 'offset') ?? 0))
  await file.close()
  tensor.rawData = rawData
  delete tensor.externalData
  delete tensor.dataLocation
}

/** Makes the weights of a hollow folder, where they are missing: uniform, of deviation 0.03, one block again and again. */
export async function fillFolder(folder: string): Promise<void> {
  const path = join(folder, 'onnx', weightsFile)
  if (await stat(path).catch(() => undefined)) return
  let size = 0
  for (const graph of await graphsOf(folder)) size = Math.max(size, await hollowEnd(graph))
  if (size === 0) return
  const block = new Uint8Array(randomBlock(4_194_301).buffer)
  const file = await open(`${path}.part`, 'w')
  for (let at = 0; at < size; at += block.length)
    await file.write(block, 0, Math.min(block.length, size - at))
  await file.close()
  await rename(`${path}.part`, path)
}

/** Bytes of the file that a graph reads. Without the checks of `readOnnx`, which wants the file to be there. */
async function hollowEnd(graph: string): Promise<number> {
  // A graph that is not hollow can be too large to be read at once, and a hollow one is small.
  if ((await stat(graph)).size > 2 ** 24) return 0
  const ends = [...allTensors(decodeModel(await readFile(graph)))]
    .filter((tensor) => entryOf(tensor, 'location') === weightsFile)
    .map((tensor) => Number(entryOf(tensor, 'offset')) + Number(entryOf(tensor, 'length')))
  return Math.max(0, ...ends)
}

if (import.meta.main) await hollowFolder(process.argv[2]!, process.argv[3]!)
