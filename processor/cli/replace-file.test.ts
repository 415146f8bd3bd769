import { link, lstat, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { replaceFile } from './replace-file.ts'

let folder: string
let path: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-replace-'))
  path = join(folder, 'a')
})
afterEach(() => rm(folder, { recursive: true }))

test('a file that fails on the way changes nothing and leaves nothing', async () => {
  await writeFile(path, 'before')
  const failing = replaceFile(path, async (part) => {
    await writeFile(part, 'half')
    throw new Error('The disk is full.')
  })
  await expect(failing).rejects.toThrow('The disk is full.')
  expect([await readdir(folder), await readFile(path, 'utf8')]).toEqual([['a'], 'before'])
})

test('links stay what they are', async () => {
  await writeFile(path, 'before')
  await link(path, join(folder, 'hard'))
  await symlink(path, join(folder, 'symbolic'))
  await replaceFile(join(folder, 'symbolic'), (part) => writeFile(part, 'after'))
  expect(await readFile(path, 'utf8')).toBe('after')
  expect(await readFile(join(folder, 'hard'), 'utf8')).toBe('before')
  expect((await lstat(join(folder, 'symbolic'))).isSymbolicLink()).toBe(true)
})
