import type {
  AttributeProto,
  GraphProto,
  ModelProto,
  NodeProto,
  TensorProto,
  ValueInfoProto,
} from './proto.ts'
import { allGraphs, bodiesOf } from './visit.ts'
import { ModelFolderError } from './weights.ts'

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

/** Names that a node reads: its inputs, and what its bodies take from around them. Left-out inputs are empty names. */
export function namesRead(node: NodeProto): string[] {
  return [...node.input, ...bodiesOf(node).flatMap((body) => [...outerNames(body)])]
}

/** The node that makes each value of a graph. */
export function producersOf({ node }: GraphProto): Map<string, NodeProto> {
  return new Map(node.flatMap((each) => each.output.filter(Boolean).map((name) => [name, each] as const)))
}

/** The nodes that read each value of a graph, those included whose bodies do. */
export function consumersOf({ node }: GraphProto): Map<string, NodeProto[]> {
  const consumers = new Map<string, NodeProto[]>()
  for (const each of node)
    for (const name of new Set(namesRead(each)))
      if (name !== '') consumers.set(name, [...(consumers.get(name) ?? []), each])
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

/**
 * Sorts the nodes of a graph and of its bodies so that each comes after those whose values it reads: converters append
 * nodes at the end, which bodies must not have. In place; nodes that are in order keep it.
 * @throws ModelFolderError when values depend on themselves
 */
export function sortNodes(graph: GraphProto): void {
  const producers = producersOf(graph)
  const sorted: NodeProto[] = []
  const state = new Map<NodeProto, 'open' | 'done'>()
  // A stack of its own: a chain of a hundred thousand nodes would overflow the call stack.
  for (const start of graph.node) {
    const stack = [start]
    while (stack.length > 0) {
      const node = stack.at(-1)!
      if (state.get(node) === undefined) {
        state.set(node, 'open')
        const needed = namesRead(node).map((name) => producers.get(name))
        for (const other of needed.reverse()) {
          if (other === undefined || state.get(other) === 'done') continue
          if (state.get(other) === 'open')
            throw new ModelFolderError(
              `The graph is circular at the node ${JSON.stringify(node.name ?? node.output[0] ?? '')}. Pull the model again.`,
            )
          stack.push(other)
        }
      } else {
        stack.pop()
        if (state.get(node) === 'open') sorted.push(node)
        state.set(node, 'done')
      }
    }
  }
  graph.node = sorted
  for (const node of graph.node) for (const body of bodiesOf(node)) sortNodes(body)
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

/** Value of a whole-numbered attribute. */
export function intAttribute(node: NodeProto, name: string): number | undefined {
  const attribute = node.attribute?.find((each) => each.name === name)
  return attribute && Number(attribute.i ?? 0)
}
