import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runSimulate } from './command.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-simulate-'))
})
afterAll(() => rm(folder, { recursive: true }))

const table = { buckets: [1, 4], levels: [{ pruneRatio: 0, ms: [10, 30] }], decodeMs: 1 }

async function run(...args: string[]) {
  const output = { stdout: '', stderr: '' }
  const code = await runSimulate(args, {
    stdout: { write: (text) => (output.stdout += text) },
    stderr: { write: (text) => (output.stderr += text) },
    measure: async (rounds, onProgress) => {
      onProgress(`measuring ${rounds} times`)
      return table
    },
  })
  return { code, ...output }
}

const small = ['--trace', 'steady', '--rate', '20', '--duration', '5s']

test('prints a row for each policy, and draws the curves', async () => {
  const svg = join(folder, 'curves.svg')
  const { code, stdout, stderr } = await run(...small, '--policy', 'full,level:1', '--svg', svg)
  expect(code).toBe(0)
  expect(stdout.split('\n').map((line) => line.split(/\s+/)[0])).toEqual(['policy', 'full', 'level:1', ''])
  expect(stderr).toContain('steady load: 20 requests/s, 5 s')
  expect(await readFile(svg, 'utf8')).toMatch(/^<svg [\s\S]*>level:1</)
})

test('prints JSON and draws nothing when asked to, the same every time', async () => {
  const args = [...small, '--policy', 'full', '--json', '--no-svg', '--gpus', '2', '--speed', '3']
  const { code, stdout } = await run(...args)
  expect(code).toBe(0)
  const [report] = JSON.parse(stdout)
  expect(report).toMatchObject({ policy: 'full', meanLevel: 0, shed: 0 })
  expect(report.series.length).toBeGreaterThanOrEqual(5)
  expect((await run(...args)).stdout).toBe(stdout)
})

test('plays a file of arrivals by a cost table from a file', async () => {
  const trace = join(folder, 'trace.csv')
  const costs = join(folder, 'costs.json')
  await writeFile(trace, 'at_ms,deadline_ms\n0,5\n100,500\n')
  await writeFile(costs, JSON.stringify(table))
  const args = ['--trace', trace, '--costs', costs, '--policy', 'adaptive', '--json', '--no-svg']
  const [report] = JSON.parse((await run(...args)).stdout)
  expect(report).toMatchObject({ requests: 2, answered: 2, late: 1 })
})

test('a batch has its columns', async () => {
  const { stdout } = await run(
    ...small,
    '--policy',
    'full',
    '--no-svg',
    '--batch-lines',
    '50',
    '--window',
    '10m',
  )
  expect(stdout).toContain('batch done after')
})

test('measures, and writes what it measured', async () => {
  const out = join(folder, 'measured.json')
  const { code, stderr } = await run('--measure', '--rounds', '3', '--out', out)
  expect(code).toBe(0)
  expect(stderr).toContain('measuring 3 times')
  expect(JSON.parse(await readFile(out, 'utf8'))).toEqual(table)
  expect(JSON.parse((await run('--measure')).stdout)).toEqual(table)
})

test('help names the options and shows examples', async () => {
  const { code, stdout } = await run('--help')
  expect(code).toBe(0)
  expect(stdout).toContain('--policy <list>')
  expect(stdout).toMatch(/\(default:\s+500ms\)/)
  expect(stdout).toContain('Examples:')
})

test.each([
  [['--gpus', 'many'], /--gpus/],
  [['--gpus', '1001'], /replicas must be from 1 to 1000/],
  [['--policy', 'best'], /Unknown policy "best"/],
  [['--trace', 'no-such-file.csv'], /no-such-file\.csv cannot be read/],
  [['--costs', 'h100'], /cost table h100 cannot be read/],
  [['--slo', '500'], /500ms/],
  [['--burts', '20s'], /unknown option '--burts'/],
  [['extra'], /too many arguments/],
])('%j is wrong usage, and one line says why', async (args, message) => {
  const { code, stdout, stderr } = await run(...args, '--no-svg')
  expect(code).toBe(2)
  expect(stdout).toBe('')
  expect(stderr).toMatch(message)
  expect(stderr).toMatch(/^simulate: /)
})
