import { randomUUID } from 'node:crypto'
import { open, realpath, rename, rm } from 'node:fs/promises'

/** Name of a temporary file beside its target, so that the move into place is atomic. */
export const partFile = (path: string) => `${path}.${randomUUID().slice(0, 8)}.part`

/**
 * Writes a file that takes the place of another only when it is complete. What has the same content by another name keeps
 * it; a symbolic link stays one.
 * @param write receives the path to write
 */
export async function replaceFile(given: string, write: (path: string) => Promise<unknown>): Promise<void> {
  const path = await realpath(given).catch(() => given)
  const part = partFile(path)
  try {
    await write(part)
    const file = await open(part, 'r+')
    await file.sync().finally(() => file.close())
    await rename(part, path)
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
}
