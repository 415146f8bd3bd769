import { parseArgs } from 'node:util'
import { benchTurbo } from './turbo.ts'

const usage = `npm run bench -- NAME [--rounds N] [--batch N]

  turbo     the encoder with Turbo against a graph without it
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string' },
    batch: { type: 'string' },
    help: { type: 'boolean' },
  },
})
const number = (text: string | undefined, fallback: number) => (text === undefined ? fallback : Number(text))
const benches: Record<string, () => Promise<void>> = {
  turbo: () => benchTurbo({ rounds: number(values.rounds, 7), batch: number(values.batch, 1) }),
}
const bench = benches[positionals[0] ?? '']
if (!bench || values.help) {
  console.log(usage)
  process.exitCode = values.help ? 0 : 2
} else await bench()
