import type {
  AttributeProto,
  GraphProto,
  ModelProto,
  NodeProto,
  TensorProto,
  ValueInfoProto,
} from './proto.ts'
import { allGraphs, bodiesOf } from './visit.ts'

/** Drops what tells people of a model and does not compute: texts, metadata, shapes in between. In place. */
export function dropAnnotations(model: ModelProto): void {
  const drop = (part: { docString?: string; metadataProps?: unknown }) => {
    delete part.docString
    delete part.metadataProps
  }
  const dropFromNodes = (nodes: NodeProto[]) => {
    for (const node of nodes) {
      drop(node)
      node.attribute?.forEach(drop)
    }
  }
  const bodies = (model.functions ?? []).flatMap(({ node }) => node.flatMap(bodiesOf))
  for (const graph of [model.graph, ...bodies].flatMap((each) => [...allGraphs(each)])) {
    drop(graph)
    delete graph.valueInfo
    dropFromNodes(graph.node)
    for (const part of [...graph.input, ...graph.output, ...(graph.initializer ?? [])]) drop(part)
  }
  for (const each of model.functions ?? []) {
    drop(each)
    delete each.valueInfo
    dropFromNodes(each.node)
  }
  drop(model)
}

/** Names that a graph reads and does not make itself: a body's values from around it. */
export function outerNames(graph: GraphProto): Set<string> {
  const made = new Set([
    ...graph.input.map(({ name }) => name),
    ...(graph.initializer ?? []).map(({ name }) => name),
    ...(graph.sparseInitializer ?? []).map(({ values }) => values.name),
    ...graph.node.flatMap(({ output }) => output),
  ])
  const read = [...graph.node.flatMap(namesRead), ...graph.output.map(({ name }) => name)]
  return new Set(read.filter((name) => name !== '' && !made.has(name)))
}

/** Names that a node reads: its inputs, without those left out, and what its bodies take from around them. */
export function namesRead(node: NodeProto): string[] {
  return [
    ...node.input.filter((name) => name !== ''),
    ...bodiesOf(node).flatMap((body) => [...outerNames(body)]),
  ]
}

/** The node that makes each value of a graph. */
export function producersOf({ node }: GraphProto): Map<string, NodeProto> {
  return new Map(node.flatMap((each) => each.output.filter(Boolean).map((name) => [name, each] as const)))
}

/** The nodes that read each value of a graph, those included whose bodies do. */
export function consumersOf({ node }: GraphProto): Map<string, NodeProto[]> {
  const consumers = new Map<string, NodeProto[]>()
  for (const each of node)
    for (const name of new Set(namesRead(each))) {
      const readers = consumers.get(name)
      if (readers) readers.push(each)
      else consumers.set(name, [each])
    }
  return consumers
}

/** All names of values in a graph and its bodies. */
export function namesOf(graph: GraphProto): Set<string> {
  const names = new Set<string>()
  for (const { node, initializer = [], input, output } of allGraphs(graph)) {
    for (const { name } of [...initializer, ...input, ...output]) names.add(name)
    for (const each of node) for (const name of [...each.input, ...each.output]) names.add(name)
  }
  names.delete('')
  return names
}

/** Gives names that none of `taken` has, and takes them. */
export function nameSource(taken: Set<string>): (wanted: string) => string {
  return (wanted) => {
    let name = wanted
    for (let i = 1; taken.has(name); i++) name = `${wanted}_${i}`
    taken.add(name)
    return name
  }
}

/** A copy of a graph and its bodies under other names. Empty names stay empty; nothing large is copied. */
export function renameGraph(graph: GraphProto, rename: (name: string) => string): GraphProto {
  const named = (name: string) => (name === '' ? '' : rename(name))
  const value = (info: ValueInfoProto): ValueInfoProto => ({ ...info, name: named(info.name) })
  const tensor = (each: TensorProto): TensorProto => ({ ...each, name: named(each.name) })
  return {
    ...graph,
    node: graph.node.map((node) => renameNode(node, named)),
    input: graph.input.map(value),
    output: graph.output.map(value),
    ...(graph.initializer && { initializer: graph.initializer.map(tensor) }),
    ...(graph.sparseInitializer && {
      sparseInitializer: graph.sparseInitializer.map((each) => ({ ...each, values: tensor(each.values) })),
    }),
    ...(graph.valueInfo && { valueInfo: graph.valueInfo.map(value) }),
    ...(graph.quantizationAnnotation && {
      quantizationAnnotation: graph.quantizationAnnotation.map((each) => ({
        tensorName: named(each.tensorName),
        quantParameterTensorNames: each.quantParameterTensorNames.map((entry) => ({
          ...entry,
          value: named(entry.value),
        })),
      })),
    }),
  }
}

function renameNode(node: NodeProto, named: (name: string) => string): NodeProto {
  const attribute = node.attribute?.map(
    (each): AttributeProto => ({
      ...each,
      ...(each.g && { g: renameGraph(each.g, named) }),
      ...(each.graphs && { graphs: each.graphs.map((graph) => renameGraph(graph, named)) }),
    }),
  )
  return {
    ...node,
    name: named(node.name || node.output.find(Boolean) || ''),
    input: node.input.map(named),
    output: node.output.map(named),
    ...(attribute && { attribute }),
  }
}
