import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Benchmark, benchmarks, type OptionValue } from './benchmarks.ts'

/** Wrong usage of the command. */
class UsageError extends Error {
  override readonly name = 'UsageError'
}

const names = Object.keys(benchmarks)

const usage = `npm run bench -- NAME [options]      one benchmark
npm run bench -- NAME --smoke        a quick check with tiny sizes, measures nothing
npm run bench -- --smoke             quick check of all benchmarks
npm run bench -- NAME --help         the fields of its JSON line

${names.map((name) => `  ${name.padEnd(11)}${benchmarks[name]!.description.padEnd(58)}${optionsText(benchmarks[name]!)}`).join('\n')}

Each benchmark prints a table and a final JSON line. Both sides of a ratio run alternately.`

function optionsText({ options }: Benchmark): string {
  return Object.entries(options)
    .map(([name, value]) => (value === false ? `--${name}` : `--${name} ${String(value) || 'all'}`))
    .join(' ')
}

function fieldsText(name: string, { description, fields }: Benchmark): string {
  const lines = Object.entries(fields).map(([field, meaning]) => `  ${field.padEnd(36)}${meaning}`)
  return `${name}: ${description}\n\n${lines.join('\n')}`
}

function parseOption(name: string, text: string, byDefault: OptionValue): OptionValue {
  if (typeof byDefault === 'string') return text
  const parts = text === 'all' ? [] : text.split(',')
  const numbers = parts.map(Number)
  if (typeof byDefault === 'object') {
    if (typeof byDefault[0] === 'string') return parts
    if (numbers.every((number) => Number.isInteger(number) && number >= 0)) return numbers
    throw new UsageError(`--${name} must be integers, separated by commas, got ${text}`)
  }
  if (Number.isInteger(numbers[0]) && numbers[0]! > 0 && numbers.length === 1) return numbers[0]!
  throw new UsageError(`--${name} must be a positive integer, got ${text}`)
}

const typeOf = (byDefault: OptionValue) => (typeof byDefault === 'boolean' ? 'boolean' : 'string')

function parseCommandLine(args: string[]) {
  const byName =
    args.find((arg) => Object.hasOwn(benchmarks, arg)) ?? args.find((arg) => !arg.startsWith('-'))
  const bench = benchmarks[byName ?? '']
  if (byName !== undefined && !bench) throw new UsageError(`Unknown benchmark "${byName}".`)
  const options = Object.fromEntries(
    Object.entries(bench?.options ?? {}).map(([name, value]) => [name, { type: typeOf(value) }]),
  )
  const flags = { help: { type: 'boolean' }, smoke: { type: 'boolean' } } as const
  const { values } = parseArgs({ args, allowPositionals: true, options: { ...options, ...flags } })
  const { help = false, smoke = false, ...given } = values
  const parsed = Object.entries(given as Record<string, string | boolean>).map(([name, value]) => [
    name,
    typeof value === 'boolean' ? value : parseOption(name, value, bench!.options[name]!),
  ])
  return { name: byName, bench, help, smoke, given: Object.fromEntries(parsed) as object }
}

/** Runs every benchmark in its own process, regardless of failures. */
async function smokeAll(): Promise<void> {
  const failed: string[] = []
  for (const name of names) {
    if ((await benchmarks[name]!.canRun?.()) === false) {
      console.log(`\n${name}: skipped, its servers cannot be started here (see test/README.md)`)
      continue
    }
    console.log(`\n${name}`)
    const args = [fileURLToPath(import.meta.url), name, '--smoke']
    const [code] = await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit')
    if (code !== 0) failed.push(name)
  }
  if (failed.length === 0) return
  console.error(`\nfailed: ${failed.join(', ')}`)
  process.exitCode = 1
}

async function main(args: string[]): Promise<void> {
  const { name, bench, help, smoke, given } = parseCommandLine(args)
  if (help) console.log(bench ? fieldsText(name!, bench) : usage)
  else if (bench) await (await bench.load())({ ...bench.options, ...(smoke ? bench.smoke : {}), ...given })
  else if (smoke) await smokeAll()
  else throw new UsageError('Missing the name of a benchmark.')
}

const isUsageError = (error: unknown): error is Error =>
  error instanceof UsageError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true

await main(process.argv.slice(2)).catch((error: unknown) => {
  if (!isUsageError(error)) throw error
  console.error(`${error.message}\n\n${usage}`)
  process.exitCode = 2
})
