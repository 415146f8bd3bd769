import { stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { makeDisk } from './disk.ts'

const disk = await makeDisk()

test.runIf(disk)('a disk is full, and has room again, for every process', async () => {
  const { folder, fill, free, remove } = disk!
  const file = join(folder, 'file')
  await writeFile(file, new Uint8Array(100_000))
  await fill()
  await expect(writeFile(join(folder, 'more'), new Uint8Array(100_000))).rejects.toThrow('ENOSPC')
  expect(await stat(file)).toMatchObject({ size: 100_000 })
  await free()
  await writeFile(join(folder, 'more'), new Uint8Array(100_000))
  await remove()
  await expect(stat(folder)).rejects.toThrow('ENOENT')
})
