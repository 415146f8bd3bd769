import { chmod, mkdir, open, stat } from 'node:fs/promises'
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

/**
 * Syncs directories as `syncDirectory`; those who ask while theirs is being synced share the next sync.
 * @example const sync = groupedSyncs()
 */
export function groupedSyncs(syncNow = syncDirectory): (path: string) => Promise<void> {
  const running = new Map<string, Promise<void>>()
  const next = new Map<string, Promise<void>>()
  const start = (path: string) => {
    next.delete(path)
    const sync = syncNow(path).finally(() => {
      if (running.get(path) === sync) running.delete(path)
    })
    running.set(path, sync)
    return sync
  }
  return (path) => {
    const current = running.get(path)
    if (!current) return start(path)
    const waiting =
      next.get(path) ??
      current.then(
        () => start(path),
        () => start(path),
      )
    next.set(path, waiting)
    return waiting
  }
}

/** Durable `mkdir -p`. @param mode of each directory that is made */
export async function makeDirectory(path: string, mode?: number): Promise<void> {
  const directory = resolve(path)
  const first = await mkdir(directory, { recursive: true, mode })
  if (first === undefined) return
  for (let made = directory; made.length >= first.length; made = dirname(made))
    await syncDirectory(dirname(made))
}

/** Modes of directories and files that only their owner may read. */
export const privateDirectory = 0o700
export const privateFile = 0o600

/** Makes a directory of the user's own, durably, and closes one that is there to other users, if it is this user's. */
export async function makePrivateDirectory(path: string): Promise<void> {
  await makeDirectory(path, privateDirectory)
  await closeToOthers(path)
}

/** Takes the permissions of other users away. A file system may have none, and another owner may have chosen them. */
async function closeToOthers(path: string): Promise<void> {
  const { mode } = await stat(path)
  if ((mode & 0o077) !== 0) await chmod(path, mode & 0o700).catch(() => {})
}

/** Makes an empty file of the user's own, unless there is one, which is closed to other users. */
export async function makePrivateFile(path: string): Promise<void> {
  // Never opens a file that exists: closing it would drop the locks that this process has on it.
  const made = await open(path, 'wx', privateFile).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  if (made) await made.close()
  else await closeToOthers(path)
}
