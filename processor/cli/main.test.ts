import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const cli = fileURLToPath(new URL('./main.ts', import.meta.url))

const fullDisk = '/dev/full'

async function turbine(args: string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [cli, ...args], { env: { ...process.env, ...env } })
  const printed = { stdout: '', stderr: '' }
  child.stdout.on('data', (text) => {
    printed.stdout += text
  })
  child.stderr.on('data', (text) => {
    printed.stderr += text
  })
  const [code] = await once(child, 'close')
  return { code, ...printed }
}

test.each([
  [['--help'], /TURBINE_DEVICE/],
  [['serve', '--help'], /--port <PORT>/],
  [['caption', '--help'], /--retry-errors/],
  [['inspect', '--help'], /safetensors/],
  [['models', '--help'], /pull/],
  [['models', 'list', '--help'], /list the bundled and the pulled models/],
  [['models', 'pull', '--help'], /HF_ENDPOINT/],
  [['--version'], /^\d+\.\d+\.\d+\n$/],
])('turbine %j prints it and is done', async (args, text) => {
  const { code, stdout, stderr } = await turbine(args)
  expect([code, stderr]).toEqual([0, ''])
  expect(stdout).toMatch(text)
})

test('a bad option, a bad flag and a bad variable are one line and exit code 2', async () => {
  const unknown = await turbine(['serve', '--prot', '1'])
  expect(unknown).toMatchObject({ code: 2, stdout: '' })
  expect(unknown.stderr).toMatch(/^turbine: unknown option '--prot'.*\n$/)
  const flag = await turbine(['serve', '--port', 'http'])
  expect(flag).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^turbine: --port is "http"; allowed: .*\n$/),
  })
  const variable = await turbine(['models', 'list'], { TURBINE_PORT: 'http' })
  expect(variable).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^turbine: TURBINE_PORT is "http".*\n$/),
  })
})

test('the bundled model is listed', async () => {
  const { code, stdout } = await turbine(['models', 'list'])
  expect(code).toBe(0)
  expect(stdout).toMatch(/^starter \(bundled\) +[\d.]+ MB /)
})

test.skipIf(!existsSync(fullDisk))('output that could not be written is a failure', async () => {
  const file = openSync(fullDisk, 'w')
  const child = spawn(process.execPath, [cli, '--version'], { stdio: ['ignore', file, 'pipe'] })
  let stderr = ''
  child.stderr!.on('data', (text) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  closeSync(file)
  expect(code).toBe(1)
  expect(stderr).toMatch(/^turbine: Not all of the output was written: ENOSPC: .*\n$/)
})
