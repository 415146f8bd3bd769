import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { UsageError } from '../errors.ts'
import { openCalibrationState } from './state.ts'

let folder: string
let path: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'calibrate-state-'))
  path = join(folder, 'state.jsonl')
})
afterEach(() => rm(folder, { recursive: true }))

const never = async () => {
  throw new Error('This was remembered.')
}

it('remembers what was found out, in this run and the next', async () => {
  const first = await openCalibrationState(path, 'a')
  expect([first.resumed, first.has('x')]).toEqual([false, false])
  expect(await first.recall('x', async () => ['one'])).toEqual(['one'])
  expect(await first.recall('x', never)).toEqual(['one'])
  await first.close()
  const second = await openCalibrationState(path, 'a')
  expect([second.resumed, second.has('x')]).toEqual([true, true])
  expect(await second.recall('x', never)).toEqual(['one'])
  await second.remove()
  await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' })
})

it('leaves out a line that was cut off, and goes on behind the whole ones', async () => {
  const first = await openCalibrationState(path, 'a')
  await first.recall('x', async () => 1)
  await first.close()
  await appendFile(path, '{"key":"y","val')
  const second = await openCalibrationState(path, 'a')
  expect(second.has('y')).toBe(false)
  await second.recall('y', async () => 2)
  await second.close()
  const third = await openCalibrationState(path, 'a')
  expect([await third.recall('x', never), await third.recall('y', never)]).toEqual([1, 2])
  await third.close()
})

it('keeps what another calibration found out, for when that one goes on', async () => {
  const first = await openCalibrationState(path, 'a')
  await first.recall('x', async () => 1)
  await first.close()
  const second = await openCalibrationState(path, 'b')
  expect([second.resumed, second.has('x')]).toEqual([false, false])
  await second.recall('x', async () => 2)
  await second.remove()
  const third = await openCalibrationState(path, 'a')
  expect(await third.recall('x', never)).toBe(1)
  await third.recall('y', async () => 3)
  await third.close()
  const fourth = await openCalibrationState(path, 'b')
  expect([await fourth.recall('x', never), fourth.has('y')]).toEqual([2, false])
  await fourth.close()
})

it.each(['no JSON\n', '{"image":"a.jpg"}\n'])('refuses a file that is something else: %j', async (text) => {
  await writeFile(path, text)
  await expect(openCalibrationState(path, 'a')).rejects.toThrow(UsageError)
  await expect(openCalibrationState(path, 'a')).rejects.toThrow(/is not a calibration state.*--state/)
  expect(await readFile(path, 'utf8')).toBe(text)
})
