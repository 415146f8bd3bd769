import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import * as ort from 'onnxruntime-node'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  type AttributeProto,
  encodeModel,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
} from './proto.ts'
import { readOnnx } from './read.ts'
import { openSession } from './session.ts'
import { allTensors } from './visit.ts'
import { ModelFolderError } from './weights.ts'
import { leanModel, WireError } from './wire.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-onnx-'))
})
afterEach(() => rm(folder, { recursive: true }))

const bytesOf = (data: ArrayBufferView) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
const counted = (name: string, from: number, count = 500): TensorProto => ({
  name,
  dataType: 1,
  dims: [count],
  rawData: bytesOf(Float32Array.from({ length: count }, (_, i) => from + i)),
})
const float = (name: string, ...dims: number[]) => ({
  name,
  type: { tensorType: { elemType: 1, shape: { dim: dims.map((dimValue) => ({ dimValue })) } } },
})
const constant = (name: string, t: TensorProto): NodeProto => ({
  opType: 'Constant',
  input: [],
  output: [name],
  attribute: [{ name: 'value', type: 4, t }],
})
const modelOf = (graph: Partial<GraphProto>): ModelProto => ({
  irVersion: 9,
  opsetImport: [{ domain: '', version: 17 }],
  graph: {
    name: 'g',
    node: [{ opType: 'Add', input: ['x', 'w'], output: ['y'] }],
    initializer: [counted('w', 0)],
    input: [float('x', 1)],
    output: [float('y', 500)],
    ...graph,
  },
})
const branch = (name: string, inner: Partial<GraphProto>): GraphProto => ({
  name,
  node: [{ opType: 'Add', input: ['x', `${name}:w`], output: [`${name}:y`] }],
  input: [],
  output: [float(`${name}:y`, 500)],
  ...inner,
})

async function write(model: ModelProto | Uint8Array, name = 'model.onnx'): Promise<string> {
  const file = join(folder, name)
  await writeFile(file, model instanceof Uint8Array ? model : encodeModel(model))
  return file
}

async function run(model: ModelProto, x = 1): Promise<number[]> {
  const session = await openSession(encodeModel(model), folder, { intraOpNumThreads: 1, logSeverityLevel: 4 })
  const { y } = await session.run({ x: new ort.Tensor('float32', [x], [1]) })
  return Array.from(y!.data as Float32Array).slice(0, 2)
}

/** Chooses by x: a branch with an initializer, or one with a constant. */
const branches = (): ModelProto =>
  modelOf({
    node: [
      { opType: 'Cast', input: ['x'], output: ['yes'], attribute: [{ name: 'to', type: 2, i: 9 }] },
      {
        opType: 'If',
        input: ['yes'],
        output: ['y'],
        attribute: [
          { name: 'then_branch', type: 5, g: branch('then', { initializer: [counted('then:w', 10)] }) },
          {
            name: 'else_branch',
            type: 5,
            g: branch('else', {
              node: [
                constant('else:w', counted('', 20)),
                { opType: 'Add', input: ['x', 'else:w'], output: ['else:y'] },
              ],
            }),
          },
        ],
      },
    ],
    initializer: [],
  })

describe('readOnnx', () => {
  it('leaves large tensors in the file, and sessions read them there', async () => {
    const model = readOnnx(await write(modelOf({})))
    expect(model.graph.initializer![0]).toMatchObject({ name: 'w', dims: [500], dataLocation: 1 })
    expect(model.graph.initializer![0]!.rawData).toBeUndefined()
    expect(encodeModel(model).length).toBeLessThan(300)
    expect(await run(model)).toEqual([1, 2])
  })

  it('leaves those of branches and constants there too', async () => {
    const model = readOnnx(await write(branches()))
    expect([...allTensors(model)].map(({ dataLocation }) => dataLocation)).toEqual([1, 1])
    expect(await run(model, 1)).toEqual([11, 12])
    expect(await run(model, 0)).toEqual([20, 21])
  })

  it('leaves numbers there that are written as floats', async () => {
    const floatData = Array.from({ length: 500 }, (_, i) => i + 3)
    const model = readOnnx(
      await write(modelOf({ initializer: [{ name: 'w', dataType: 1, dims: [500], floatData }] })),
    )
    expect(model.graph.initializer![0]).toMatchObject({ dataLocation: 1 })
    expect(await run(model)).toEqual([4, 5])
  })

  it('keeps small tensors in the graph', async () => {
    const initializer = [counted('w', 5, 1)]
    const model = readOnnx(await write(modelOf({ initializer })))
    expect(model.graph.initializer![0]!.rawData).toHaveLength(4)
    expect(await run(model)).toEqual([6])
  })

  it('gives locations from the folder that is asked for', async () => {
    await mkdir(join(folder, 'onnx'))
    const model = readOnnx(await write(modelOf({}), 'onnx/a.onnx'), { folder })
    expect(model.graph.initializer![0]!.externalData![0]).toEqual({ key: 'location', value: 'onnx/a.onnx' })
    expect(await run(model)).toEqual([1, 2])
  })

  it('passes external data on, with its place written out', async () => {
    await writeFile(
      join(folder, 'w.onnx_data'),
      Float32Array.from({ length: 502 }, (_, i) => i),
    )
    const at = (...entries: [string, string][]) => ({
      ...counted('w', 0),
      rawData: undefined,
      dataLocation: 1,
      externalData: [['location', 'w.onnx_data'], ...entries].map(([key, value]) => ({
        key: key!,
        value: value!,
      })),
    })
    const whole = readOnnx(await write(modelOf({ initializer: [at(['offset', '8'], ['length', '2000'])] })))
    expect(await run(whole)).toEqual([3, 4])
    const bare = readOnnx(await write(modelOf({ initializer: [at()] })))
    expect(bare.graph.initializer![0]!.externalData).toEqual([
      { key: 'location', value: 'w.onnx_data' },
      { key: 'offset', value: '0' },
      { key: 'length', value: '2000' },
    ])
    expect(await run(bare)).toEqual([1, 2])
  })
})

describe('whole numbers', () => {
  const roundTrip = async (attribute: AttributeProto) => {
    const model = readOnnx(
      await write(
        modelOf({
          node: [{ opType: 'Op', input: [], output: ['y'], attribute: [attribute] }],
          initializer: [],
        }),
      ),
    )
    const again = readOnnx(await write(model, 'again.onnx'))
    return again.graph.node[0]!.attribute![0]!
  }
  it.each([2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n, 2 ** 53 - 1, 0, -1])(
    'of 64 bits stay exact: %s',
    async (i) => {
      expect((await roundTrip({ name: 'i', type: 2, i })).i).toBe(i)
      expect((await roundTrip({ name: 'is', type: 7, ints: [i, 1] })).ints).toEqual([i, 1])
      const t = { name: 't', dataType: 7, dims: [1], int64Data: [i] }
      expect((await roundTrip({ name: 't', type: 4, t })).t!.int64Data).toEqual([i])
    },
  )
  it('without a sign stay exact', async () => {
    const t = { name: 't', dataType: 13, dims: [1], uint64Data: [2n ** 64n - 1n] }
    expect((await roundTrip({ name: 't', type: 4, t })).t!.uint64Data).toEqual([2n ** 64n - 1n])
  })
})

describe('the schema is whole', () => {
  it('for functions, sequences, optionals, maps, sparse and typed tensors, and what is told beside them', async () => {
    const told = { docString: 'why', metadataProps: [{ key: 'k', value: 'v' }] }
    const tensor = { tensorType: { elemType: 1, shape: { dim: [{ dimParam: 'B', denotation: 'D' }, {}] } } }
    const sparse = {
      values: { name: 's', dataType: 1, dims: [1], floatData: [0.5] },
      indices: { name: 'si', dataType: 7, dims: [1], int64Data: [2] },
      dims: [4],
    }
    const model: ModelProto = {
      ...modelOf({
        node: [
          {
            opType: 'F',
            input: ['x', ''],
            output: ['y'],
            domain: 'own',
            overload: 'o',
            attribute: [
              { name: 'strings', type: 8, strings: [new Uint8Array([0xc3, 0x28]), new Uint8Array()] },
              {
                name: 'tensors',
                type: 9,
                tensors: [{ name: '', dataType: 11, dims: [2], doubleData: [0.1, 2] }],
              },
              { name: 'graphs', type: 10, graphs: [branch('then', { initializer: [counted('then:w', 1)] })] },
              { name: 'sparse', type: 11, sparseTensor: sparse },
              { name: 'all', type: 12, sparseTensors: [sparse] },
              { name: 'type', type: 13, tp: { optionalType: { elemType: tensor } } },
              { name: 'types', type: 14, typeProtos: [{ mapType: { keyType: 8, valueType: tensor } }] },
              { name: 'ref', type: 1, refAttrName: 'alpha', docString: 'd' },
              {
                name: 'words',
                type: 4,
                t: { name: '', dataType: 8, dims: [1], stringData: [new Uint8Array([97])] },
              },
            ],
            ...told,
          },
        ],
        initializer: [{ ...counted('w', 0, 1), ...told }],
        sparseInitializer: [sparse],
        input: [{ name: 'x', type: { sequenceType: { elemType: tensor } }, ...told }],
        valueInfo: [{ name: 'v', type: { sparseTensorType: { elemType: 1, shape: { dim: [] } } } }],
        quantizationAnnotation: [{ tensorName: 'w', quantParameterTensorNames: [{ key: 'a', value: 'b' }] }],
        ...told,
      }),
      functions: [
        {
          name: 'F',
          domain: 'own',
          overload: 'o',
          input: ['a', 'b'],
          output: ['c'],
          attribute: ['alpha'],
          attributeProto: [{ name: 'beta', type: 1, f: 0.5 }],
          node: [{ opType: 'Add', input: ['a', 'a'], output: ['c'] }],
          opsetImport: [{ domain: '', version: 17 }],
          valueInfo: [],
          ...told,
        },
      ],
      producerVersion: '1',
      modelVersion: 2n ** 60n,
      ...told,
    }
    const plain = (value: unknown): unknown => {
      if (ArrayBuffer.isView(value) || Array.isArray(value)) return Array.from(value as Uint8Array, plain)
      if (typeof value !== 'object' || value === null) return value
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, plain(part)]))
    }
    const read = readOnnx(await write(model), { inlineBytes: 1 << 20 })
    expect(plain(read)).toMatchObject(plain(model) as object)
  })
})

describe('a bad file is one line', () => {
  const refused = (file: string) => {
    const read = () => readOnnx(file)
    expect(read).toThrow(ModelFolderError)
    try {
      read()
    } catch (error) {
      expect((error as Error).message).not.toContain('\n')
      return (error as Error).message
    }
    return ''
  }
  const external = (location: string, entries: Record<string, string> = {}): ModelProto =>
    modelOf({
      initializer: [
        {
          ...counted('w', 0),
          rawData: undefined,
          dataLocation: 1,
          externalData: Object.entries({ location, ...entries }).map(([key, value]) => ({ key, value })),
        },
      ],
    })

  it('that is missing, a folder, empty, no model, or cut short', async () => {
    expect(refused(join(folder, 'none.onnx'))).toContain('is missing')
    expect(refused(folder)).toContain('is missing')
    expect(refused(await write(new Uint8Array()))).toContain('is no ONNX model')
    expect(refused(await write(new TextEncoder().encode('<!doctype html><p>not found')))).toMatch(
      /no ONNX model|cut short/,
    )
    expect(
      refused(await write(new TextEncoder().encode('version https://git-lfs.github.com/spec/v1\n'))),
    ).toMatch(/no ONNX model|cut short/)
    const bytes = encodeModel(modelOf({}))
    expect(refused(await write(bytes.subarray(0, bytes.length - 20)))).toContain('is cut short')
    expect(refused(await write(bytes.subarray(0, 1000)))).toContain('is cut short')
  })

  it.each([
    '../secret',
    '/etc/passwd',
    'a/../../secret',
    'a\\..\\..\\secret',
    'C:secret',
    '',
    '.',
    'w\0.bin',
    '\0own/',
  ])('with data at %j', async (location) => {
    expect(refused(await write(external(location)))).toMatch(/outside of the model's folder/)
  })

  it('with data behind a link to the outside', async () => {
    const outside = await mkdtemp(join(tmpdir(), 'turbine-outside-'))
    await writeFile(join(outside, 'w'), new Uint8Array(2000))
    await symlink(join(outside, 'w'), join(folder, 'w'))
    expect(refused(await write(external('w')))).toContain('outside')
    await writeFile(join(outside, 'm.onnx'), encodeModel(modelOf({})))
    await symlink(join(outside, 'm.onnx'), join(folder, 'm.onnx'))
    expect(refused(join(folder, 'm.onnx'))).toContain('cp -rL')
    await rm(outside, { recursive: true })
  })

  it.each<[string, Record<string, string>, RegExp]>([
    ['beyond its file', { offset: '1' }, /is cut short/],
    ['far beyond it', { offset: '9007199254740993' }, /is cut short/],
    ['at no number', { offset: '-8' }, /no number/],
    ['at an exponent', { offset: '1e3' }, /no number/],
    ['of another length', { length: '1999' }, /1999 bytes instead of 2000/],
  ])('with data %s', async (_, entries, message) => {
    await writeFile(join(folder, 'w'), new Uint8Array(2000))
    expect(refused(await write(external('w', entries)))).toMatch(message)
  })

  it('with data that is not there', async () => {
    expect(refused(await write(external('w.onnx_data')))).toMatch(/w\.onnx_data is missing/)
  })

  it.each<[string, Partial<TensorProto>, RegExp]>([
    ['whose sizes disagree with its bytes', { dims: [501] }, /2000 bytes instead of 2004/],
    ['of a negative size', { dims: [-500] }, /cannot be/],
    ['of an unbounded size', { dims: [2 ** 40, 2 ** 40] }, /cannot be/],
    [
      'of a size that is no number of JavaScript',
      { dims: [(2n ** 62n) as unknown as number, 2] },
      /cannot be/,
    ],
    ['of an unknown type', { dataType: 99 }, /cannot be/],
    ['with its data in two places', { externalData: [{ key: 'location', value: 'w' }] }, /two places/],
  ])('with a tensor %s', async (_, change, message) => {
    const initializer = [{ ...counted('w', 0), ...change }]
    expect(refused(await write(modelOf({ initializer })))).toMatch(message)
  })

  it('whose tensors share their bytes without end', async () => {
    await writeFile(join(folder, 'w'), new Uint8Array(2000))
    const [shared] = external('w').graph.initializer!
    const initializer = Array.from({ length: 9 }, (_, i) => ({ ...shared!, name: `w${i}` }))
    expect(refused(await write(modelOf({ initializer })))).toContain('shares its bytes')
  })
})

describe('leanModel', () => {
  const sourceOf = (bytes: Uint8Array) => ({
    size: bytes.length,
    read: (offset: number, into: Uint8Array) => {
      if (offset < 0 || offset + into.length > bytes.length) throw new RangeError('read beyond the end')
      into.set(bytes.subarray(offset, offset + into.length))
    },
  })
  const walked = (bytes: Uint8Array, limits = {}) => {
    try {
      return leanModel(sourceOf(bytes), limits)
    } catch (error) {
      if (error instanceof WireError) return undefined
      throw error
    }
  }
  const valid = encodeModel(branches())

  it('never fails otherwise than by a WireError, and never reads beyond the end', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => void walked(bytes)))
    const edits = fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(edits, fc.nat(valid.length), (changes, length) => {
        const bytes = valid.slice(0, length)
        for (const [at, value] of changes) if (at < length) bytes[at] = value
        walked(bytes)
      }),
      { numRuns: 500 },
    )
  })

  it('refuses groups, varints without end, and lengths beyond what is around them', () => {
    const malformed = [
      [0x0b],
      [0x3a, 0x80],
      [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    ]
    // The graph has 4 bytes, its node claims 5; a length of 2^63.
    malformed.push(
      [0x3a, 4, 0x0a, 5, 0, 0, 0, 0],
      [0x3a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
    )
    for (const bytes of malformed) expect(walked(Uint8Array.from(bytes))).toBeUndefined()
  })

  it('refuses graphs that would become more objects or bytes than any export has', () => {
    const nodes = new Uint8Array(4000).map((_, i) => (i % 2 ? 0 : 0x0a))
    const graph = Uint8Array.from([0x3a, 0xa0, 0x1f, ...nodes])
    expect(walked(graph)).toHaveLength(graph.length)
    expect(walked(graph, { items: 1999 })).toBeUndefined()
    expect(walked(valid, { graphBytes: 100 })).toBeUndefined()
    const packed = encodeModel(
      modelOf({ initializer: [{ name: 'w', dataType: 7, dims: [400], int64Data: Array(400).fill(1) }] }),
    )
    expect(walked(packed, { items: 400 })).toBeUndefined()
  })

  it('refuses nesting that would overflow the stack', () => {
    expect(walked(encodeNested(60))).toBeDefined()
    expect(walked(encodeNested(5000))).toBeUndefined()
  })
})

/** A graph in an attribute of a node of a graph, and so on. */
function encodeNested(depth: number): Uint8Array {
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value & 127) | 128, ...varint(value >> 7)]
  let inner: number[] = []
  for (let i = depth; i >= 0; i--) {
    const key = i === 0 ? 0x3a : [0x0a, 0x2a, 0x32][(i - 1) % 3]!
    inner = [key, ...varint(inner.length), ...inner]
  }
  return Uint8Array.from(inner)
}
