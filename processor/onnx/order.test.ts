import { describe, expect, it } from 'vitest'
import { inOrder, neededNodes } from './order.ts'
import type { GraphProto, NodeProto } from './proto.ts'

const node = (output: string, ...input: string[]): NodeProto => ({ opType: 'Sum', input, output: [output] })
const graphOf = (nodes: NodeProto[]): GraphProto => ({ name: 'g', node: nodes, input: [], output: [] })
const names = (nodes: NodeProto[]) => nodes.map(({ output }) => output[0])

/** Reads a tensor from inside of a branch alone. */
const branching = (output: string, captured: string): NodeProto => ({
  opType: 'If',
  input: ['x'],
  output: [output],
  attribute: [
    {
      name: 'then_branch',
      type: 5,
      g: { ...graphOf([node('inner', captured)]), output: [{ name: 'inner' }] },
    },
  ],
})

describe('inOrder', () => {
  it('puts what is read before who reads it, and keeps the order otherwise', () => {
    expect(names(inOrder(graphOf([node('c', 'b'), node('a', 'x'), node('b', 'a'), node('d', 'x')])))).toEqual(
      ['a', 'b', 'c', 'd'],
    )
  })

  it('counts what branches read', () => {
    expect(names(inOrder(graphOf([branching('y', 'a'), node('a', 'x')])))).toEqual(['a', 'y'])
  })

  it('refuses a circle', () => {
    expect(() => inOrder(graphOf([node('a', 'b'), node('b', 'a')]))).toThrow(/circular/)
    expect(() => inOrder(graphOf([node('a', 'a')]))).toThrow(/circular/)
  })
})

describe('neededNodes', () => {
  it('leaves out what nobody needs', () => {
    const nodes = [node('a', 'x'), node('b', 'a'), branching('c', 'a'), node('d', 'b')]
    expect(names(neededNodes(nodes, ['c']))).toEqual(['a', 'c'])
    expect(names(neededNodes(nodes, ['d']))).toEqual(['a', 'b', 'd'])
  })
})
