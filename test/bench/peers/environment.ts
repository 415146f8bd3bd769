import { execFile } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { benchFolder } from '../folders.ts'

const run = promisify(execFile)

/** File of this folder. */
export const fileOf = (name: string): string => fileURLToPath(new URL(name, import.meta.url))

/** The environment that the benchmark makes for itself, kept between runs. */
const ownFolder = join(benchFolder, 'python')

export interface PythonOptions {
  /** A Python that has the packages; `own`: the benchmark's. */
  python: string
  /** Makes the benchmark's environment where there is none, and brings its packages up to date. */
  install: boolean
}

export const installCommand = 'npm run bench -- peers --install'

/** The Python of the peers; undefined where there is none. */
export async function openPython({ python, install }: PythonOptions): Promise<string | undefined> {
  if (python !== 'own') return python
  const own = join(ownFolder, 'bin', 'python')
  if (install) {
    console.error(`installing ${(await requirements()).join(', ')} into ${ownFolder}: some GB`)
    await run('python3', ['-m', 'venv', ownFolder])
    await run(own, ['-m', 'pip', 'install', '-q', '-r', fileOf('requirements.txt')], { maxBuffer: 2 ** 26 })
  }
  return (await stat(own).catch(() => undefined)) && own
}

/** Tests whether a Python can import all of them. */
export async function canImport(python: string, modules: readonly string[]): Promise<boolean> {
  const code = `import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in ${JSON.stringify(modules)}))`
  return run(python, ['-c', code]).then(
    () => true,
    () => false,
  )
}

/** The pinned packages. */
async function requirements(): Promise<string[]> {
  const text = await readFile(fileOf('requirements.txt'), 'utf8')
  return text.split('\n').filter((line) => line.includes('=='))
}

/** What a peer's engine needs converted, made once below the folder of the model. @throws Error that says why it cannot be */
export async function converted(
  python: string,
  kind: 'onnx' | 'openvino' | 'openvino-int8',
  { folder, pictures }: { folder: string; pictures: string },
): Promise<string> {
  const target = join(folder, 'converted', kind)
  if (await stat(join(target, 'done')).catch(() => undefined)) return target
  if (kind === 'openvino-int8') await converted(python, 'openvino', { folder, pictures })
  console.error(`converting to ${target}`)
  await run(python, [fileOf('convert.py'), kind, folder, target, pictures], { maxBuffer: 2 ** 26 }).catch(
    (error: Error & { stderr?: string }) => {
      throw new Error(error.stderr?.trim().split('\n').at(-1) ?? error.message)
    },
  )
  return target
}
