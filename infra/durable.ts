import { mkdir, open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

/**
 * Makes the names in a directory durable. (A file's own sync covers its content; the name that a rename, link or mkdir
 * gave it belongs to the directory.)
 */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** Durable `mkdir -p`. */
export async function makeDirectory(path: string): Promise<void> {
  const directory = resolve(path)
  const first = await mkdir(directory, { recursive: true })
  if (first === undefined) return
  for (let made = directory; made.length >= first.length; made = dirname(made))
    await syncDirectory(dirname(made))
}
