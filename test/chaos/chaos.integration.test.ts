import { describe, expect, test } from 'vitest'
import { canStartKafka } from '../servers/kafka.ts'
import { canStartS3 } from '../servers/s3.ts'
import { runChaos } from './chaos.ts'
import { describeVerdict } from './verdict.ts'

/** Another one in a run by hand: `CHAOS_SEED=7 npm run test:chaos`. */
const seed = Number(process.env.CHAOS_SEED ?? 1)

const canRun = canStartKafka() && canStartS3()
if (!canRun)
  console.warn(
    'Chaos is not tested: install Java 17, Maven, OpenSSL and Go, or see `npm run chaos -- --help`.',
  )

// It starts all of its servers itself, and needs the machine for itself. How long honest callers wait is measured by
// `npm run chaos`.
describe.skipIf(!canRun)('chaos', () => {
  test('a fleet in a storm loses and doubles nothing, and holds nothing afterwards', async () => {
    const log: string[] = []
    const running = runChaos({ minutes: 1.5, seed, hurried: true, log: (line) => log.push(line) })
    const { verdict, summary } = await running.finally(() => console.log(log.join('\n')))
    console.log(JSON.stringify(summary))
    expect(describeVerdict(verdict)).toMatch(/^Nothing lost/)
  }, 600_000)
})
