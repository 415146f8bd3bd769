import { beforeAll, describe, expect, it } from 'vitest'
import { canInstall, type GoTool, installGoTool } from '../servers/go-tools.ts'
import { run } from '../servers/tools.ts'
import { composeFile, readServices, type Service } from './compose.ts'

/** Reads compose files with the library that `docker compose` reads them with. */
const composeSpec: GoTool = {
  name: 'compose-spec',
  package: 'github.com/compose-spec/compose-go/v2/cmd',
  version: 'v2.16.2',
}

describe.skipIf(!canInstall(composeSpec))('the compose file', () => {
  let binary: string

  beforeAll(async () => {
    binary = await installGoTool(composeSpec)
  }, 900_000)

  it('is one by the specification', async () => {
    // The command hands no environment variables to the file, so the secret would be missing.
    const loaded = await run(binary, ['-no-interpolation', '-format', 'json', composeFile])
    const { services } = JSON.parse(loaded) as { services: Record<string, Service> }
    expect(Object.keys(services).sort()).toEqual(Object.keys(await readServices()).sort())
    expect(services.processor?.depends_on).toEqual({
      bucket: { condition: 'service_completed_successfully', required: true },
      topics: { condition: 'service_completed_successfully', required: true },
    })
  })
})
