import { parseArgs } from 'node:util'
import { benchBurst } from './burst.ts'
import { benchCaption } from './caption.ts'
import { benchController } from './controller.ts'
import { benchGpu } from './gpu.ts'
import { benchMemory } from './memory.ts'
import { benchMixed } from './mixed.ts'
import { benchPipeline } from './pipeline.ts'
import { benchPlanner } from './planner.ts'
import { benchQuality } from './quality.ts'
import { benchService } from './service.ts'
import { benchSimulate } from './simulate.ts'
import { benchStart } from './start.ts'
import { benchTurbo } from './turbo.ts'

const usage = `npm run bench -- NAME [options]

  turbo      the encoder with Turbo against a graph without it        --rounds 9 --batch 8
  caption    whole captioning, and the starter model's curve          --rounds 5 --batch 8
  quality    exact captions by schedule and mode, same scenes         --scenes 2000
  pipeline   the service against the bare engine                      --rounds 5 --batch 16
  service    Worker, Kafka, processor and S3 against the bare engine  --rounds 5 --batch 16
  burst      a tenfold burst: full quality, fixed levels, adaptive    --rounds 1 --seconds 20 --percent 80 --levels 3,4,8
  mixed      batches that saturate, beside interactive requests       --rounds 3 --seconds 20
  controller what one decision costs while very many images wait      --images 100000 --rounds 3000
  simulate   a million requests on a simulated fleet                  --images 1000000
  planner    planning and joining a large batch                       --lines 1000000
  gpu        whole captioning by batch size on one device             --device auto --sizes base,large --batches 1,8,32,64,128 --r 40 --rounds 5
  start      time to ready and resident memory                        --rounds 3
  memory     resident memory over many images                         --images 10000

Each prints a table and ends with one JSON line. Ratios are of sides that ran in turn.
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string' },
    batch: { type: 'string' },
    scenes: { type: 'string' },
    images: { type: 'string' },
    lines: { type: 'string' },
    seconds: { type: 'string' },
    percent: { type: 'string' },
    levels: { type: 'string' },
    device: { type: 'string' },
    sizes: { type: 'string' },
    batches: { type: 'string' },
    r: { type: 'string' },
    help: { type: 'boolean' },
  },
})

const number = (
  name: 'rounds' | 'batch' | 'scenes' | 'images' | 'lines' | 'seconds' | 'percent' | 'r',
  fallback: number,
) => {
  const value = Number(values[name] ?? fallback)
  if (Number.isInteger(value) && value > 0) return value
  throw new RangeError(`--${name} has to be a positive integer`)
}

const benches: Record<string, () => Promise<void>> = {
  turbo: () => benchTurbo({ rounds: number('rounds', 9), batch: number('batch', 8) }),
  caption: () => benchCaption({ rounds: number('rounds', 5), batch: number('batch', 8) }),
  quality: () => benchQuality({ scenes: number('scenes', 2000) }),
  pipeline: () => benchPipeline({ rounds: number('rounds', 5), batch: number('batch', 16) }),
  service: () => benchService({ rounds: number('rounds', 5), batch: number('batch', 16) }),
  burst: () =>
    benchBurst({
      rounds: number('rounds', 1),
      seconds: number('seconds', 20),
      percent: number('percent', 80),
      levels: values.levels?.split(',').map(Number),
    }),
  mixed: () => benchMixed({ rounds: number('rounds', 3), seconds: number('seconds', 20) }),
  controller: () => benchController({ images: number('images', 100_000), rounds: number('rounds', 3000) }),
  simulate: () => benchSimulate({ images: number('images', 1_000_000) }),
  planner: () => benchPlanner({ lines: number('lines', 1_000_000) }),
  gpu: () =>
    benchGpu({
      device: values.device ?? 'auto',
      sizes: (values.sizes ?? 'base,large').split(','),
      batches: (values.batches ?? '1,8,32,64,128').split(',').map(Number),
      rounds: number('rounds', 5),
      r: number('r', 40),
    }),
  start: () => benchStart({ rounds: number('rounds', 3) }),
  memory: () => benchMemory({ images: number('images', 10_000) }),
}

const bench = benches[positionals[0] ?? '']
if (bench && !values.help) await bench()
else {
  console.log(usage)
  process.exitCode = values.help ? 0 : 2
}
