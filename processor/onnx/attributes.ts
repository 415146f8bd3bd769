import type { AttributeProto, NodeProto } from './proto.ts'

const find = ({ attribute }: NodeProto, name: string): AttributeProto | undefined =>
  attribute?.find((each) => each.name === name)

/** A whole number among a node's attributes. */
export function intOf(node: NodeProto, name: string): number | undefined {
  const found = find(node, name)
  // A zero may be left out of the file.
  return found && Number(found.i ?? 0)
}

export function intsOf(node: NodeProto, name: string): number[] | undefined {
  const found = find(node, name)
  return found && (found.ints ?? []).map(Number)
}

export function floatOf(node: NodeProto, name: string): number | undefined {
  const found = find(node, name)
  return found && (found.f ?? 0)
}

/** `ai.onnx` is another name of the empty domain, which is ONNX's own. */
export const domainOf = ({ domain = '' }: { domain?: string }): string => (domain === 'ai.onnx' ? '' : domain)

/** True when the operator is ONNX's own. */
export const isStandard = (part: { domain?: string }): boolean => domainOf(part) === ''
