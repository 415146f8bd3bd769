import { parseArgs } from 'node:util'
import { canStartKafka } from '../servers/kafka.ts'
import { canStartS3 } from '../servers/s3.ts'
import { runChaos } from './chaos.ts'
import { describeVerdict, isClean } from './verdict.ts'

const usage = `npm run chaos -- [--minutes N] [--seed S]

Runs a fleet on a real Kafka and a real S3 server through a calm and a storm of faults and attacks, and
checks what honest tenants got and what the processes still hold. Faults are printed before they happen;
the seed repeats them. It exits with 1 when anything was not as promised.

  --minutes N   of calm and storm together, default 10; some more go into starting, waiting and settling
  --seed S      of plan and load; default: another one each time
  --hurried     more faults: the next one comes before all have recovered; honest callers are not measured
  --max-ratio R how many times their calm p99 honest callers may wait, outside of outages; default 2

KAFKA_BROKERS, and S3_ENDPOINT with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name servers that run already;
those are not stopped. Else Java 17, Maven, OpenSSL and Go are needed.`

const options = {
  minutes: { type: 'string', default: '10' },
  seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  'max-ratio': { type: 'string', default: '2' },
  hurried: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const

async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options })
  if (values.help) {
    console.log(usage)
    return 0
  }
  const [minutes, seed, maxRatio] = [values.minutes, values.seed, values['max-ratio']].map(Number)
  if (!(minutes! > 0) || !Number.isInteger(seed) || !(maxRatio! > 0)) {
    console.error(usage)
    return 2
  }
  const given = process.env
  if (!(given.KAFKA_BROKERS || canStartKafka()) || !(given.S3_ENDPOINT || canStartS3())) {
    console.error(
      'Servers cannot be started here: install Java 17, Maven, OpenSSL and Go, or name servers (--help).',
    )
    return 2
  }
  const interrupted = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort())
  const { verdict, summary } = await runChaos({
    minutes: minutes!,
    seed: seed!,
    hurried: values.hurried,
    maxRatio: values.hurried ? undefined : maxRatio,
    signal: interrupted.signal,
  })
  console.log(describeVerdict(verdict))
  const short = (_: string, value: unknown) =>
    typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value
  console.log(JSON.stringify(summary, short))
  if (!isClean(verdict))
    console.log(
      `Repeat it: npm run chaos -- --minutes ${minutes} --seed ${seed}${values.hurried ? ' --hurried' : ''}`,
    )
  return isClean(verdict) ? 0 : 1
}

process.exitCode = await main(process.argv.slice(2))
