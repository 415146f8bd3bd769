import * as ort from 'onnxruntime-node'
import { Graph } from '../graph.ts'
import { runtimeDomain } from '../operators.ts'
import { openSession } from '../session.ts'
import { largestWhole } from './round.ts'

const terms = 64
const channels = 64

/**
 * The largest whole number that weights may have on this machine: CPUs before AVX-512 VNNI and AVX-VNNI add pairs of products
 * in 16 bits, which cuts off what is too large, so that weights have to be of half the range there.
 */
export async function mostOnThisCpu(): Promise<number> {
  return (await addsExactly(largestWhole.exact)) ? largestWhole.exact : largestWhole.saturating
}

/** Whether the largest sum of products with such weights comes out right, for one row and for several. */
export async function addsExactly(most: number): Promise<boolean> {
  const g = new Graph()
  const rows = g.input('rows', 'uint8', ['M', terms])
  const weight = g.initializer('int8', [terms, channels], new Int8Array(terms * channels).fill(most))
  const inputs = [rows, weight, g.floats(1), g.floats(new Array<number>(channels).fill(1)), g.bytes(0)]
  g.output('sums', g.op('MatMulIntegerToFloat', inputs, ['float32'], {}, runtimeDomain)[0], ['M', channels])
  const session = await openSession(g.toModel(), '.', { executionProviders: ['cpu'], intraOpNumThreads: 1 })
  try {
    for (const count of [1, 16]) {
      const full = new ort.Tensor('uint8', new Uint8Array(count * terms).fill(255), [count, terms])
      const { sums } = await session.run({ rows: full })
      if ((sums!.data as Float32Array).some((sum) => sum !== terms * 255 * most)) return false
    }
    return true
  } finally {
    await session.release()
  }
}
