import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { cacheFolder, hasCommand, run } from '../servers/tools.ts'

const version = '3.57.0'

/**
 * A Python that can `import openai`: the machine's own, else one with the package from PyPI, which stays in the user's
 * cache.
 * @returns its command; undefined where there is no Python, or PyPI cannot be reached
 */
export async function pythonWithOpenai(): Promise<string | undefined> {
  if (!hasCommand('python3')) return undefined
  if (await succeeds('python3', ['-c', 'import openai'])) return 'python3'
  const folder = cacheFolder(`python-openai-${version}`)
  const python = join(folder, 'bin', 'python')
  if (existsSync(python)) return python
  await mkdir(dirname(folder), { recursive: true })
  console.log(`Installing the Python package openai ${version} from PyPI, once ...`)
  const made = await mkdtemp(`${folder}-`)
  const install = [
    '-m',
    'pip',
    'install',
    '--quiet',
    '--disable-pip-version-check',
    '--retries',
    '1',
    `openai==${version}`,
  ]
  const isMade =
    (await succeeds('python3', ['-m', 'venv', made])) &&
    (await succeeds(join(made, 'bin', 'python'), install))
  // Whoever is first, when several test runs install at once, is who the cache is from.
  if (isMade) await rename(made, folder).catch(() => undefined)
  await rm(made, { recursive: true, force: true })
  return existsSync(python) ? python : undefined
}

const succeeds = (command: string, args: string[]) =>
  run(command, args).then(
    () => true,
    () => false,
  )
