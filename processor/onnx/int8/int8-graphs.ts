import { neededNodes } from '../order.ts'
import { decodeModel, encodeModel, type ModelProto, type TensorProto } from '../proto.ts'
import { namesRead } from '../rewrite.ts'
import { allTensors } from '../visit.ts'
import { replaceLinearLayers } from './linear-layers.ts'
import { Int8WeightsFile } from './weights-file.ts'

/** A serialised model with its weights as external data in files of `folder`. */
interface GraphInFolder {
  graph: Uint8Array
  folder: string
}

export interface Int8Options {
  /** Folder of the user's own for the rounded weights, which are written once for each model. */
  cache: string
  /** Largest whole number of a weight, see `largestWhole`. */
  most: number
}

/**
 * The graphs of a model with their linear layers in int8: products with stored float weights, those of bodies included.
 * Other operators, and products of activations, stay as they are.
 * @throws ModelFolderError when the rounded weights cannot be written
 */
export async function int8Graphs<G extends GraphInFolder>(
  graphs: Readonly<Record<string, G>>,
  { cache, most }: Int8Options,
): Promise<Record<string, G>> {
  const file = new Int8WeightsFile(most)
  const changed = Object.entries(graphs).map(([name, each]) => [name, each, inInt8(each, file)] as const)
  const folder = await file.write(cache)
  return Object.fromEntries(changed.map(([name, each, graph]) => [name, { ...each, graph, folder }]))
}

function inInt8({ graph, folder }: GraphInFolder, file: Int8WeightsFile): Uint8Array {
  const model = decodeModel(graph)
  const rounded = new Set<TensorProto>()
  replaceLinearLayers(model, (weight) => {
    const made = file.round(folder, weight)
    rounded.add(made.values).add(made.scales)
    return made
  })
  dropUnused(model)
  for (const tensor of allTensors(model))
    if (tensor.dataLocation === 1 && !rounded.has(tensor)) Object.assign(tensor, file.copy(folder, tensor))
  return encodeModel(model)
}

/** Nodes and tensors that nothing reads any more. */
function dropUnused({ graph }: ModelProto): void {
  const outputs = graph.output.map(({ name }) => name)
  graph.node = neededNodes(graph.node, outputs)
  const read = new Set([...graph.node.flatMap(namesRead), ...outputs])
  graph.initializer = graph.initializer?.filter(({ name }) => read.has(name))
}
