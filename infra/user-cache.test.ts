import { chmod, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, it, onTestFinished } from 'vitest'
import { compileCacheFolder } from './user-cache.ts'

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'turbine-home-'))
  return () => rm(home, { recursive: true })
})

const folderIn = (cache: string) => compileCacheFolder({ XDG_CACHE_HOME: cache })

it('is made below the folder for caches, for the user alone', async () => {
  const folder = folderIn(home)
  expect(folder).toBe(join(home, 'turbine/compile-cache'))
  expect((await stat(folder!)).mode & 0o777).toBe(0o700)
  expect(folderIn(home)).toBe(folder)
})

it.each([0o770, 0o777, 0o1777])('is none if others may write there (mode %o)', async (mode) => {
  await chmod((await made()).folder, mode)
  expect(folderIn(home)).toBeUndefined()
})

it('is none if others may replace what it lies in', async () => {
  await made()
  await chmod(join(home, 'turbine'), 0o777)
  expect(folderIn(home)).toBeUndefined()
  // As /tmp is: others may add something, but not rename what is there.
  await chmod(join(home, 'turbine'), 0o1777)
  expect(folderIn(home)).toBeDefined()
})

it('is none behind a link', async () => {
  const elsewhere = await mkdtemp(join(tmpdir(), 'turbine-elsewhere-'))
  onTestFinished(() => rm(elsewhere, { recursive: true }))
  await mkdir(join(home, 'turbine'))
  await symlink(elsewhere, join(home, 'turbine/compile-cache'))
  expect(folderIn(home)).toBeUndefined()
})

it('is none where it cannot be made', async () => {
  await writeFile(join(home, 'turbine'), '')
  expect(folderIn(home)).toBeUndefined()
})

async function made() {
  const folder = folderIn(home)!
  await stat(folder)
  return { folder }
}
