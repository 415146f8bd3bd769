import { describe, expect, it } from 'vitest'
import { splitInvariant } from './invariant.ts'
import type { NodeProto } from './proto.ts'

const node = (output: string, ...input: string[]): NodeProto => ({
  opType: 'Add',
  input,
  output: [output],
})

describe('splitInvariant', () => {
  const split = (nodes: NodeProto[], given: string[] = []) => {
    const { once, everyRound } = splitInvariant(nodes, {
      changing: ['x'],
      given,
      constants: new Set(['weight']),
    })
    const names = (some: NodeProto[]) => some.flatMap(({ output }) => output)
    return { once: names(once), everyRound: names(everyRound) }
  }

  it('takes out what is made of values around the loop, and what comes of that', () => {
    const nodes = [node('keys', 'states', 'weight'), node('turned', 'keys'), node('y', 'x', 'turned')]
    expect(split(nodes)).toEqual({ once: ['keys', 'turned'], everyRound: ['y'] })
  })

  it('leaves what is made of constants alone, but takes it with whoever needs it', () => {
    const nodes = [node('one'), node('two', 'weight'), node('keys', 'states', 'one'), node('y', 'x', 'two')]
    expect(split(nodes)).toEqual({ once: ['one', 'keys'], everyRound: ['two', 'y'] })
  })

  it('leaves what a body reads that changes', () => {
    const body = { name: 'branch', input: [], output: [{ name: 'z' }], node: [node('z', 'x', 'states')] }
    const branch: NodeProto = {
      opType: 'If',
      input: ['states'],
      output: ['y'],
      attribute: [{ name: 'then_branch', type: 5, g: body }],
    }
    expect(split([branch, node('next', 'y')])).toEqual({ once: [], everyRound: ['y', 'next'] })
  })

  it('leaves what the body gives out, and what comes of it', () => {
    const nodes = [node('keys', 'states'), node('more', 'keys')]
    expect(split(nodes, ['keys'])).toEqual({ once: [], everyRound: ['keys', 'more'] })
  })
})
