import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { caption } from '../../processor/cli/caption/tables/run.fixture.ts'
import { temporaryFolder } from '../e2e/turbine.ts'
import { canUsePython, installPackages } from '../examples/python.ts'
import { run } from '../servers/tools.ts'

const here = dirname(fileURLToPath(import.meta.url))
const kinds = ['snappy', 'zstd', 'gzip', 'brotli', 'lz4', 'none', 'pages-2']

const asMade = {
  rows: 3000,
  differences: [],
  duckdb: [3000, 3000, 'caption of picture 0'],
  ours: expect.objectContaining({
    caption: 'string',
    turbine_prune_level: 'int32',
    turbine_prune_ratio: 'double',
    turbine_warnings: 'list<element: string>',
  }),
}

it.skipIf(!canUsePython())(
  "pyarrow's files in every codec keep every value and type, as pyarrow and DuckDB read them",
  async () => {
    const packages = await installPackages(join(here, 'requirements.txt'))
    const folder = await temporaryFolder()
    const env = { ...process.env, PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: '1' }
    const python = (script: string) => run('python3', [join(here, script), folder], { env, cwd: folder })
    await python('make.py')
    for (const kind of kinds) {
      const files = { out: join(folder, `${kind}-out.parquet`) }
      const { error } = await caption([join(folder, `${kind}.parquet`)], files)
      expect([kind, error]).toEqual([kind, undefined])
    }
    expect(JSON.parse(await python('compare.py'))).toEqual(
      Object.fromEntries(kinds.map((kind) => [kind, asMade])),
    )
  },
  300_000,
)
