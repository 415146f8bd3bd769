import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { startService } from '../e2e/service.ts'
import { temporaryFolder } from '../e2e/turbine.ts'
import { canUsePython, installPackages } from '../examples/python.ts'
import { run } from '../servers/tools.ts'

const here = dirname(fileURLToPath(import.meta.url))

/**
 * What the document allows may still be refused: an image that is none, a file that does not exist, a key that was used
 * before. And a proxy answers other methods than the document's in its own way.
 */
const excluded = 'positive_data_acceptance,unsupported_method'

it.skipIf(!canUsePython())(
  'requests that Schemathesis makes of /openapi.json are answered as it says, and never with an internal error',
  async () => {
    const packages = await installPackages(join(here, 'requirements.txt'))
    const service = await startService({ dataDir: await temporaryFolder() })
    const printed = await run(
      'python3',
      [
        ...['-m', 'schemathesis.cli', 'run', `${service.url}/openapi.json`],
        ...['--exclude-checks', excluded, '--max-examples', '5', '--continue-on-failure', '--no-shrink'],
        ...['--phases', 'examples,coverage,fuzzing,stateful', '--warnings', 'off', '--no-color'],
      ],
      {
        cwd: await temporaryFolder(),
        env: { ...process.env, PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: '1' },
      },
    ).catch(({ stdout }: { stdout: string }) => stdout)
    expect(printed).toMatch(/ no issues found/i)
  },
)
