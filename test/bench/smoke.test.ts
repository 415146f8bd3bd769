import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { benchmarks } from './benchmarks.ts'

const main = fileURLToPath(new URL('./main.ts', import.meta.url))
const bench = (...args: string[]) => promisify(execFile)(process.execPath, [main, ...args])

describe.concurrent('every benchmark still runs', async () => {
  for (const [name, { canRun, fields }] of Object.entries(benchmarks))
    test.skipIf((await canRun?.()) === false)(name, async () => {
      // It rejects when the benchmark fails.
      const { stdout } = await bench(name, '--smoke')
      const result = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Record<string, unknown>
      expect(result.bench).toBe(name)
      expect(Object.keys(result).sort()).toEqual(['bench', ...Object.keys(fields)].sort())
    })
})

test('the help lists every benchmark, and of one benchmark every field', async () => {
  const { stdout } = await bench('--help')
  for (const [name, { description }] of Object.entries(benchmarks))
    expect(stdout).toMatch(new RegExp(`^ +${name} +${description}`, 'm'))
  const { stdout: turbo } = await bench('turbo', '--help')
  for (const field of Object.keys(benchmarks.turbo!.fields)) expect(turbo).toContain(field)
})

test.each([
  [['turbine'], 'Unknown benchmark "turbine".'],
  [['turbo', '--rounds', '0'], '--rounds must be a positive integer, got 0'],
  [['burst', '--levels', '3,hard'], '--levels must be integers, separated by commas, got 3,hard'],
  [['turbo', '--scenes', '10'], "Unknown option '--scenes'"],
  [[], 'Missing the name of a benchmark.'],
])('%j is refused: %s', async (args, message) => {
  await expect(bench(...args)).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining(message) })
})
