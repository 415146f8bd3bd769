import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadConfig } from '../../infra/config.ts'
import { runSimulate } from './command.ts'

process.exitCode = await runSimulate(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  // What only measuring needs is imported then: onnxruntime and sharp are slow to load.
  measure: async (rounds, onProgress) => {
    const { measureDevice } = await import('./measure.ts')
    const { startRole } = await import('../service/roles.ts')
    const { createLogger } = await import('../../infra/telemetry/log.ts')
    const dataDir = await mkdtemp(join(tmpdir(), 'turbine-measure-'))
    try {
      const { config } = loadConfig({ flags: { dataDir, port: 0 } })
      const log = createLogger({ level: 'warn' })
      const startService = () => startRole('serve', { config, log, version: 'measure' })
      return await measureDevice({ config, startService, rounds, onProgress })
    } finally {
      await rm(dataDir, { recursive: true })
    }
  },
})
