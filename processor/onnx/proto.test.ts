import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type AttributeProto, dataTypes, decodeModel, encodeModel, type ModelProto } from './proto.ts'

const vector = (name: string) => ({
  name,
  type: { tensorType: { elemType: dataTypes.float32, shape: { dim: [{ dimParam: 'B' }, { dimValue: 4 }] } } },
})

function modelOf(attribute: AttributeProto[]): ModelProto {
  return {
    irVersion: 9,
    producerName: 'test',
    opsetImport: [
      { domain: '', version: 20 },
      { domain: 'com.microsoft', version: 1 },
    ],
    graph: {
      name: 'graph',
      node: [{ opType: 'Op', input: ['x', '', 'w'], output: ['y'], name: 'n', domain: 'd', attribute }],
      initializer: [
        { name: 'w', dataType: dataTypes.int64, dims: [1], rawData: new Uint8Array(8).fill(255) },
        {
          name: 'far',
          dataType: dataTypes.float16,
          dims: [2, 0],
          dataLocation: 1,
          externalData: [
            { key: 'location', value: 'model.safetensors' },
            { key: 'offset', value: '5000000000' },
          ],
        },
      ],
      input: [vector('x')],
      output: [vector('y')],
      valueInfo: [],
    },
  }
}

/** Bytes come back as another kind of array than they were, and lists that were left out as empty ones. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array || Array.isArray(value)) return Array.from(value, plain)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, plain(part)]))
}

const expectSame = (actual: unknown, expected: unknown) =>
  expect(plain(actual)).toMatchObject(plain(expected) as object)

const roundTrip = (attribute: AttributeProto[]) => decodeModel(encodeModel(modelOf(attribute)))

describe('encodeModel and decodeModel', () => {
  it('bring a model back as it was', () => {
    expectSame(roundTrip([]), modelOf([]))
  })

  it('keep attributes of every kind', () => {
    const body = modelOf([{ name: 'inner', type: 2, i: 3 }]).graph
    const attributes: AttributeProto[] = [
      { name: 'float', type: 1, f: 0.125 },
      { name: 'int', type: 2, i: -1 },
      { name: 'string', type: 3, s: new TextEncoder().encode('é') },
      { name: 'graph', type: 5, g: body },
      { name: 'floats', type: 6, floats: [1.5, -2] },
      { name: 'ints', type: 7, ints: [-1, 0, 2 ** 40] },
    ]
    const [node] = roundTrip(attributes).graph.node
    expectSame(node!.attribute, attributes)
  })

  it('keep whole numbers up to 2^53', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), (i) => {
        expect(roundTrip([{ name: 'i', type: 2, i }]).graph.node[0]!.attribute![0]!.i).toBe(i)
      }),
    )
  })

  it('refuse bytes that are no model', () => {
    expect(() => decodeModel(new TextEncoder().encode('<html>not found</html>'))).toThrow()
    const bytes = encodeModel(modelOf([]))
    expect(() => decodeModel(bytes.subarray(0, bytes.length - 9))).toThrow()
  })
})
