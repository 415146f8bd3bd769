import { writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, test } from 'vitest'
import { bundledPictures } from '../../infra/starter-model/bundled.ts'
import { type Service, startService } from '../e2e/service.ts'
import { temporaryFolder } from '../e2e/turbine.ts'
import { run } from '../servers/tools.ts'
import { pythonWithOpenai } from './python.ts'

const python = await pythonWithOpenai()
if (!python)
  console.warn(
    'The Python example is skipped: install Python 3 and the package openai, or let pip reach PyPI.',
  )

let service: Service
let broken: string

beforeAll(async () => {
  const dataDir = await temporaryFolder()
  broken = join(dataDir, 'broken.jpg')
  service = await startService({ dataDir })
  await writeFile(broken, 'This is no image.')
})

/** Runs an example against the service, and looks whether it has told the captions of the bundled pictures. */
async function expectCaptions(command: string, file: string): Promise<void> {
  const example = fileURLToPath(new URL(file, import.meta.url))
  const env = { ...process.env, OPENAI_BASE_URL: `${service.url}/v1`, OPENAI_API_KEY: 'none' }
  const stdout = await run(command, [example, ...bundledPictures, broken], { env })
  const captions = bundledPictures.map((picture) => `a ${basename(picture, '.jpg').replaceAll('-', ' ')}`)
  expect(stdout.trim().split('\n')).toEqual([
    `chat: ${captions[0]}`,
    `caption: ${captions[0]} (prune ratio 0)`,
    `batch: completed, ${captions.length} of ${captions.length + 1} captioned`,
    ...bundledPictures.map((picture, i) => `${picture}: ${captions[i]}`),
    expect.stringMatching(/broken\.jpg: .*image/),
  ])
}

test("OpenAI's SDK for Node captions in a chat, alone and in a batch", async () => {
  await expectCaptions(process.execPath, './openai.mjs')
})

test.skipIf(!python)("OpenAI's SDK for Python captions in a chat, alone and in a batch", async () => {
  await expectCaptions(python!, './openai_sdk.py')
})
