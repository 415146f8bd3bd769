import { spawn } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import packageJson from '../../package.json' with { type: 'json' }
import { type Service, startService } from '../e2e/service.ts'
import { temporaryFolder } from '../e2e/turbine.ts'
import { drawBelongings, makeCheckout } from './checkout.ts'
import { type CodeBlock, codeBlocks, type Document, readDocuments } from './documents.ts'

/** One that makes API keys: the service turns away callers without one from then on. */
const last = 'infra/docs/tenants.md'

const isCommand = ({ language, mark }: CodeBlock) => language === 'sh' && mark === ''
const documents = (await readDocuments())
  .map((document) => ({ ...document, commands: codeBlocks(document.text).filter(isCommand).length }))
  .filter(({ commands }) => commands > 0)
  .sort((a, b) => Number(a.path === last) - Number(b.path === last))

let service: Service
let dataDir: string
let belongings: string

beforeAll(async () => {
  dataDir = await temporaryFolder()
  const drawing = drawBelongings()
  service = await startService({ dataDir })
  belongings = await drawing
})

describe('every command that a document shows works, with a service that runs', () => {
  it.each(documents)('$path: $commands blocks', { timeout: 120_000 }, async (document) => {
    const run = await runCommands(document)
    expect(run.failure).toBeUndefined()
    for (const { line, answer, printed } of run.answers)
      expect(shapeOf(parsed(printed)), `what ${document.path}:${line} shows as the answer`).toEqual(
        shapeOf(JSON.parse(answer)),
      )
  })
})

interface Run {
  /** Where it stopped, and what was printed there. */
  failure?: string
  /** What a block printed, and what the document says that it does. */
  answers: { line: number; answer: string; printed: string }[]
}

/** Runs the blocks of a document in one shell, as a reader would in one terminal. */
async function runCommands({ path, text }: Document): Promise<Run> {
  const cwd = await makeCheckout({ belongings, dataDir })
  const records = join(cwd, '.records')
  await mkdir(records)
  // An error of the service is one of the command.
  await writeFile(join(records, '.curlrc'), 'fail-with-body\n')
  const blocks = codeBlocks(text)
  const commands = blocks.filter(isCommand).map((block) => recorded(block, records))
  const script = ['set -euo pipefail', ...(path === 'README.md' ? [] : [quickTurbine]), ...commands]
  await writeFile(join(records, 'script'), atService(script.join('\n')))
  const { code, stderr } = await bash(join(records, 'script'), { cwd, CURL_HOME: records })
  const outputOf = (line: number | string) => readFile(join(records, String(line)), 'utf8')
  if (code !== 0) {
    const line = (await outputOf('line')).trim()
    const printed = (await outputOf(line)).slice(-2000)
    return { failure: `${path}:${line} ended with ${code}\n${printed}\n${stderr.slice(-2000)}`, answers: [] }
  }
  const answers = blocks.flatMap(({ mark, code: answer }, index) => {
    const before = blocks[index - 1]
    return mark === 'answer' && before && isCommand(before) ? [{ line: before.line, answer }] : []
  })
  return {
    answers: await Promise.all(
      answers.map(async (shown) => ({ ...shown, printed: await outputOf(shown.line) })),
    ),
  }
}

/** `npx turbine` without npm, which takes longer than most commands; the README's goes through npm. */
const quickTurbine = `npx() { [ "$1" = turbine ]; node ${packageJson.bin.turbine} "\${@:2}"; }`

/** A block of which is known that it began, and what it printed. */
const recorded = ({ line, code }: CodeBlock, folder: string) =>
  `echo ${line} > '${folder}/line'\n{\n${code}\n} > '${folder}/${line}'`

/** The documents speak of the port that `npm start` takes. */
const atService = (script: string) =>
  script.replace(/\b(?:localhost|127\.0\.0\.1):8787\b/g, new URL(service.url).host)

function bash(
  script: string,
  { cwd, ...more }: { cwd: string } & Record<string, string>,
): Promise<{ code: number | null; stderr: string }> {
  const own = Object.entries(process.env).filter(([name]) => !/^(TURBINE|KAFKA|S3|AWS)_/.test(name))
  const env = {
    ...Object.fromEntries(own),
    ...more,
    // The Node that runs the tests, whichever the system has.
    PATH: [dirname(process.execPath), process.env.PATH].join(delimiter),
    TURBINE_URL: service.url,
    TURBINE_DEVICE: 'cpu',
    npm_config_update_notifier: 'false',
  }
  const child = spawn('bash', [script], { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, stderr })))
}

function parsed(printed: string): unknown {
  try {
    return JSON.parse(printed)
  } catch {
    return printed
  }
}

/** The fields of a value and their types: what stays the same from one answer to the next. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.slice(0, 1).map(shapeOf)
  if (typeof value !== 'object' || value === null) return value === null ? null : typeof value
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, shapeOf(field)]))
}
