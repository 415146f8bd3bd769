import { execFileSync } from 'node:child_process'
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readImageFile } from './image-file.ts'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-image-'))
})
afterEach(() => rm(folder, { recursive: true }))

test('gives the bytes of a file', async () => {
  await writeFile(join(folder, 'a.jpg'), 'from disk')
  expect(Buffer.from(await readImageFile(join(folder, 'a.jpg'))).toString()).toBe('from disk')
})

test('what cannot be read has a code that says why', async () => {
  await writeFile(join(folder, 'a.jpg'), '')
  const gone = { name: 'ImageError', code: 'image_not_found', status: 400 }
  await expect(readImageFile(join(folder, 'gone.jpg'))).rejects.toMatchObject(gone)
  await expect(readImageFile(join(folder, 'a.jpg', 'b.jpg'))).rejects.toMatchObject(gone)
  await expect(readImageFile(folder)).rejects.toMatchObject({ code: 'image_unreadable' })
  // Has a size, but no bytes on the disk.
  const huge = await open(join(folder, 'huge.jpg'), 'w')
  await huge.truncate(513 * 1024 * 1024)
  await huge.close()
  await expect(readImageFile(join(folder, 'huge.jpg'))).rejects.toMatchObject({ code: 'image_too_large' })
})

test.skipIf(process.platform === 'win32')(
  'a pipe that nobody writes to, and a device, are refused at once',
  async () => {
    execFileSync('mkfifo', [join(folder, 'pipe.jpg')])
    for (const path of [join(folder, 'pipe.jpg'), '/dev/zero'])
      await expect(readImageFile(path)).rejects.toMatchObject({ code: 'image_unreadable' })
  },
)
