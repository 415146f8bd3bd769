import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { readLevels } from '../../processor/models/levels.ts'
import { openModel } from '../../processor/models/open-model.ts'
import { drawPictures } from './pictures.ts'
import { runTurbine, startTurbine, temporaryFolder } from './turbine.ts'

let folder: string
let args: string[]

beforeAll(async () => {
  folder = await temporaryFolder()
  for (const [i, { jpeg }] of (await drawPictures(24)).entries())
    await writeFile(join(folder, `${i}.jpg`), jpeg)
  args = ['calibrate', '--images', folder, '--count', '24', '--levels', '4', '--min-exact', '0.95']
})

test('a dry run tells how long it takes', async () => {
  const { code, stdout } = await runTurbine([...args, '--dry-run'])
  expect(code).toBe(0)
  expect(stdout).toMatch(
    /^Model turbine-starter on cpu, float32: 14 pictures to choose levels, 10 to confirm/,
  )
})

test('a run that is killed goes on, and the table is one that the model is served with', async () => {
  const out = await temporaryFolder()
  const state = join(out, 'turbine-calibration.jsonl')
  const killed = startTurbine([...args, '--out', out])
  const linesIn = async () => (await readFile(state, 'utf8').catch(() => '')).split('\n').length
  while ((await linesIn()) < 10) await new Promise((resolve) => setTimeout(resolve, 20))
  killed.kill('SIGKILL')
  await killed.exited
  expect(await readdir(out)).toEqual(['turbine-calibration.jsonl'])

  const { code, stdout, stderr } = await runTurbine([...args, '--out', out])
  expect([code, stderr]).toEqual([0, expect.stringContaining(`Resuming from ${state}`)])
  expect((await readdir(out)).sort()).toEqual(['turbine-levels.svg', 'turbine.json'])
  const { encoder } = await openModel(bundledModel)
  const levels = await readLevels(out, encoder)
  expect(levels.length).toBeGreaterThan(1)
  expect(stdout.trimEnd().split('\n')).toHaveLength(1 + levels.length)
  for (const { quality } of levels) expect(quality!.exact).toBeGreaterThanOrEqual(0.95)
  // The starter model gives half of its encoder's work away for nothing.
  expect(Math.min(...levels.map(({ flopShare }) => flopShare))).toBeLessThan(0.5)
}, 240_000)
