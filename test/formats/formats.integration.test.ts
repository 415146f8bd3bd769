import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { caption } from '../../processor/cli/caption/tables/run.fixture.ts'
import { temporaryFolder } from '../e2e/turbine.ts'
import { canUsePython, installPackages } from '../examples/python.ts'
import { run } from '../servers/tools.ts'

const here = dirname(fileURLToPath(import.meta.url))

it.skipIf(!canUsePython())(
  "pyarrow's files in every codec keep every value and type, as pyarrow and DuckDB read them",
  async () => {
    const packages = await installPackages(join(here, 'requirements.txt'))
    const folder = await temporaryFolder()
    const env = { ...process.env, PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: '1' }
    const python = (script: string, ...args: string[]) =>
      run('python3', [join(here, script), ...args], { env, cwd: folder })
    await python('make.py', folder)
    for (const codec of ['snappy', 'zstd', 'gzip', 'brotli', 'lz4', 'none', 'pages-2']) {
      const input = join(folder, `${codec}.parquet`)
      const out = join(folder, `${basename(input, '.parquet')}-out.parquet`)
      const { error } = await caption([input], { out })
      expect([codec, error]).toEqual([codec, undefined])
      expect([codec, JSON.parse(await python('compare.py', input, out))]).toEqual([
        codec,
        {
          rows: 3000,
          differences: [],
          duckdb: [3000, 3000, 'caption of picture 0'],
          ours: expect.objectContaining({
            caption: 'string',
            turbine_prune_level: 'int32',
            turbine_prune_ratio: 'double',
            turbine_warnings: 'list<element: string>',
          }),
        },
      ])
    }
  },
)
