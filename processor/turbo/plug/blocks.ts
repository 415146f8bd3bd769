import { intOf } from '../../onnx/attributes.ts'
import type { NodeProto } from '../../onnx/proto.ts'
import { type Attention, findAttentions } from './attentions.ts'
import type { Encoder } from './encoder.ts'
import { nameOf, PlugRefusal } from './refusal.ts'

/** A block of the encoder: an attention, and the addition of its update to the hidden state. */
export interface Block {
  attention: Attention
  /** The addition. */
  residual: NodeProto
  /** Hidden state that enters, and what is added to it: `[B, N, D]`. */
  stream: string
  update: string
}

/** Nodes between an attention and the addition of its update. */
const longestWay = 40

/** The blocks in which tokens can merge. @throws PlugRefusal when there is none, or one does not allow it. */
export async function findBlocks(encoder: Encoder): Promise<Block[]> {
  const attentions = findAttentions(encoder)
  const blocks = attentions.map((attention) => blockOf(encoder, attention))
  const [first] = blocks as [Block]
  const [, tokens, width] = encoder.shape(first.stream)
  for (const { stream, attention } of blocks) {
    const [, count, columns] = encoder.shape(stream)
    if (count !== tokens || columns !== width)
      throw new PlugRefusal(`its blocks have different numbers of tokens (${nameOf(attention.last)})`)
  }
  await refuseMasks(encoder, attentions)
  refuseInnerOutputs(encoder, blocks)
  return blocks
}

function blockOf(encoder: Encoder, attention: Attention): Block {
  const { view } = encoder
  let tensor = attention.output
  for (let steps = 0; steps < longestWay && tensor; steps++) {
    const readers = view.consumers(tensor).filter(({ opType }) => opType !== 'Shape')
    const residual = readers.find((node) => isResidual(encoder, node))
    if (residual) return checked(encoder, attention, residual, tensor)
    tensor = readers[0]?.output[0] ?? ''
  }
  throw new PlugRefusal(`no hidden state takes up its attention (${nameOf(attention.last)})`)
}

function isResidual(encoder: Encoder, { opType, input }: NodeProto): boolean {
  if (opType !== 'Add') return false
  const [a, b] = input as [string, string]
  return encoder.isPixels(a) && encoder.isPixels(b) && encoder.shape(a).join() === encoder.shape(b).join()
}

function checked(encoder: Encoder, attention: Attention, residual: NodeProto, update: string): Block {
  const shape = encoder.shape(update)
  const where = nameOf(attention.last)
  if (shape.length === 2)
    throw new PlugRefusal(
      `it packs the patches of all images into one row, and turns their positions (${where})`,
    )
  if (shape.length !== 3 || shape[1] !== attention.tokens) {
    const all = shape.slice(1, -1).reduce((product, size) => product * size, 1)
    throw new PlugRefusal(
      `its attention sees ${attention.tokens} of ${all} tokens at a time, as windows do (${where})`,
    )
  }
  const [a, b] = residual.input as [string, string]
  return { attention, residual, update, stream: a === update ? b : a }
}

/** Masks of an image without padding hide nothing; anything else that is added to logits is a position. */
async function refuseMasks(encoder: Encoder, attentions: Attention[]): Promise<void> {
  const masks = new Set(attentions.flatMap(({ masks }) => masks))
  const sizes = await encoder.probe.magnitudes(masks)
  for (const [mask, { data }] of sizes)
    if (data[0] !== 0)
      throw new PlugRefusal(`it adds relative positions or a mask to its attention (${mask})`)
}

function refuseInnerOutputs(encoder: Encoder, blocks: Block[]): void {
  const { view } = encoder
  const inside = view.ancestors(blocks.at(-1)!.residual.output)
  for (const { name } of view.graph.output) {
    const node = view.producer(name)
    if (node && inside.has(node) && encoder.isPixels(name))
      throw new PlugRefusal(`its output ${name} is a hidden state between blocks`)
  }
}

/** Tokens at the front of the hidden state that stand for no patch: CLS, registers. */
export function prefixOf(encoder: Encoder, tensor: string): number {
  const node = encoder.view.producer(tensor)
  const shape = encoder.shape(tensor)
  if (!node || shape.length !== 3) return 0
  const isTokens = (axis: number | undefined) => axis === 1 || axis === -2
  if (node.opType === 'Concat' && isTokens(intOf(node, 'axis'))) return prefixOfParts(encoder, node.input)
  if (node.opType === 'Slice' && isTokens(encoder.value(node.input[3])?.[0])) {
    const [start = 0, end = 0] = [1, 2].map((i) => encoder.value(node.input[i])?.[0])
    const available = prefixOf(encoder, node.input[0]!)
    return start < 0 || end < 0 ? 0 : Math.max(0, Math.min(available, end) - start)
  }
  const same = node.input.find(
    (name) => encoder.isPixels(name) && encoder.shape(name).join() === shape.join(),
  )
  return same ? prefixOf(encoder, same) : 0
}

function prefixOfParts(encoder: Encoder, parts: string[]): number {
  let prefix = 0
  for (const part of parts) {
    const count = encoder.shape(part)[1]!
    const own = encoder.isPixels(part) ? prefixOf(encoder, part) : count
    prefix += own
    if (own < count) break
  }
  return prefix
}
