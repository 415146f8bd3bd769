import { readFile } from 'node:fs/promises'
import { canImport, converted, fileOf, installCommand } from './environment.ts'
import { knowsPrecision, type TurbinePrecision } from './precision.ts'
import { type Peer, startPeer } from './process.ts'

/** What every side gets alike. */
export interface Given {
  folder: string
  /** Raw pictures, `uint8 [N, H, W, 3]`. */
  pictures: string
  threads: number
  ids: number
  python?: string
}

/** A captioner to compare, in a process of its own. */
export interface Side {
  /** @throws Error whose message says why it is not there */
  open(given: Given): Promise<Peer>
  /** Whether its ids are held to those of Turbine in float32. */
  exact?: boolean
}

const turbine = (precision: TurbinePrecision, part?: 'encoder'): Side => ({
  exact: precision === 'float32' && part === undefined,
  async open({ folder, pictures, threads }) {
    if (!knowsPrecision(precision)) throw new Error(`the engine does not know TURBINE_PRECISION=${precision}`)
    const options = { folder, pictures, threads, precision, part }
    return startPeer(process.execPath, [fileOf('turbine-process.ts'), JSON.stringify(options)])
  },
})

type Engine = 'torch' | 'openvino' | 'onnxruntime'

const modules: Record<Engine, string[]> = {
  torch: ['torch', 'transformers'],
  openvino: ['openvino', 'nncf', 'torch', 'transformers'],
  onnxruntime: ['onnxruntime', 'onnx', 'torch', 'transformers'],
}
const files = {
  torch: undefined,
  openvino: 'openvino',
  'openvino-int8': 'openvino-int8',
  onnxruntime: 'onnx',
} as const

interface PythonSideOptions {
  engine: Engine
  precision: 'float32' | 'float16' | 'bfloat16' | 'int8'
  /** As PyTorch names it. */
  device?: string
  compile?: boolean
}

/** A side of the Python world. */
export const pythonSide = ({ engine, precision, ...more }: PythonSideOptions): Side => ({
  exact: precision === 'float32',
  async open(given) {
    const { python, folder, pictures, threads, ids } = given
    if (!python || !(await canImport(python, modules[engine])))
      throw new Error(`not installed: ${installCommand}`)
    if (precision === 'bfloat16' && !(await cpuHasBfloat16())) throw new Error('the CPU has no bfloat16')
    const kind = files[precision === 'int8' ? 'openvino-int8' : engine]
    const options = {
      ...{ engine, precision, folder, pictures, threads, ids, ...more },
      converted: kind && (await converted(python, kind, { folder, pictures })),
    }
    return startPeer(python, [fileOf('peer.py'), JSON.stringify(options)])
  },
})

async function cpuHasBfloat16(): Promise<boolean> {
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '')
  return /\b(avx512_bf16|amx_bf16|bf16)\b/.test(text)
}

/** Whole captioners of a BLIP folder, Turbine first. */
export const captioners: Record<string, Side> = {
  turbine: turbine('float32'),
  turbine_int8: turbine('int8'),
  torch: pythonSide({ engine: 'torch', precision: 'float32' }),
  torch_bfloat16: pythonSide({ engine: 'torch', precision: 'bfloat16' }),
  openvino: pythonSide({ engine: 'openvino', precision: 'float32' }),
  openvino_bfloat16: pythonSide({ engine: 'openvino', precision: 'bfloat16' }),
  openvino_int8: pythonSide({ engine: 'openvino', precision: 'int8' }),
  onnxruntime: pythonSide({ engine: 'onnxruntime', precision: 'float32' }),
}

/** The encoder of Turbine alone; those of others are in their captioners. */
export const turbineEncoders: Record<string, Side> = {
  turbine: turbine('float32', 'encoder'),
  turbine_int8: turbine('int8', 'encoder'),
}
