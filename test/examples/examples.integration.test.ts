import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { drawBelongings } from '../docs/checkout.ts'
import { type Service, startService } from '../e2e/service.ts'
import { temporaryFolder } from '../e2e/turbine.ts'
import { run } from '../servers/tools.ts'
import { canUsePython, installPackages } from './python.ts'

const examples = dirname(fileURLToPath(import.meta.url))

let service: Service
/** With a picture and a folder of pictures, to be captioned. */
let cwd: string

beforeAll(async () => {
  cwd = await drawBelongings()
  service = await startService({ dataDir: await temporaryFolder() })
})

const environment = () => ({ ...process.env, TURBINE_URL: service.url, TURBINE_API_KEY: undefined })

function expectCaptions(printed: string): void {
  const lines = printed.trim().split('\n')
  expect(lines).toHaveLength(26)
  expect(lines.at(-1)).toBe('completed: 24 captioned, 0 failed')
  const captions = new Map(lines.slice(0, -1).map((line) => line.split('\t') as [string, string]))
  expect(captions.get('photo.jpg')).toMatch(/^a (small|large) /)
  // The same picture, as a chat and in the batch.
  expect(captions.get('scene-0.jpg')).toBe(captions.get('photo.jpg'))
}

describe("OpenAI's SDKs, as the examples use them", () => {
  it('Node', async () => {
    const script = join(examples, 'captions.mjs')
    expectCaptions(await run(process.execPath, [script, 'photo.jpg', 'photos'], { cwd, env: environment() }))
  })

  it.skipIf(!canUsePython())('Python', async () => {
    const packages = await installPackages(join(examples, 'requirements.txt'))
    const env = { ...environment(), PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: '1' }
    const script = join(examples, 'captions.py')
    expectCaptions(await run('python3', [script, 'photo.jpg', 'photos'], { cwd, env }))
  })
})
