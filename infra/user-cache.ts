import { lstatSync, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import process from 'node:process'

/**
 * A folder of the user's own, created if it is missing: `$XDG_CACHE_HOME/turbine/NAME`. Undefined where somebody else could
 * put something there.
 */
export function userCacheFolder(name: string, env: NodeJS.ProcessEnv = process.env): string | undefined {
  try {
    const { XDG_CACHE_HOME: given = '' } = env
    const base = isAbsolute(given) ? given : join(homedir(), '.cache')
    const folder = join(base, 'turbine', name)
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    return isPrivate(folder) ? folder : undefined
  } catch {
    return undefined
  }
}

/** Whether a folder is the user's own and closed to others, and nobody else can replace it or what it lies in. */
function isPrivate(folder: string): boolean {
  const user = process.getuid?.()
  // Windows keeps profiles of users apart by itself.
  if (user === undefined) return true
  const { uid, mode } = lstatSync(folder)
  if (uid !== user || (mode & 0o077) !== 0) return false
  return ancestorsOf(folder).every((path) => isSafeParent(path, user))
}

/** Links would have to be checked too, and a folder that is reached through one is not worth it. */
function isSafeParent(path: string, user: number): boolean {
  const found = lstatSync(path)
  const writable = (found.mode & 0o022) !== 0
  const sticky = (found.mode & 0o1000) !== 0
  return found.isDirectory() && (found.uid === user || found.uid === 0) && (!writable || sticky)
}

function ancestorsOf(path: string): string[] {
  const parent = dirname(path)
  return parent === path ? [] : [parent, ...ancestorsOf(parent)]
}

/** The user's own folder for compiled code. What is in it is run, so that it has to be one that nobody else can write to. */
export const compileCacheFolder = (env: NodeJS.ProcessEnv = process.env): string | undefined =>
  userCacheFolder('compile-cache', env)
