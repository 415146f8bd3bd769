import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { cacheFolder, hasCommand, run } from '../servers/tools.ts'

export const canUsePython = () => hasCommand('python3')

/**
 * A folder with the packages of a `requirements.txt`, for `PYTHONPATH`. They are installed the first time and stay in
 * the user's cache.
 */
export async function installPackages(requirements: string): Promise<string> {
  const hash = createHash('sha256')
    .update(await readFile(requirements))
    .digest('hex')
    .slice(0, 16)
  const folder = join(cacheFolder('python'), hash)
  if (existsSync(folder)) return folder
  await mkdir(dirname(folder), { recursive: true })
  const part = await mkdtemp(`${folder}-`)
  const quietly = ['--quiet', '--disable-pip-version-check', '--no-input']
  await run('python3', ['-m', 'pip', 'install', ...quietly, '--target', part, '--requirement', requirements])
  // Several test runs may install at once: the first one counts.
  await rename(part, folder).catch(() => rm(part, { recursive: true }))
  return folder
}
