import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it, onTestFinished } from 'vitest'

const root = new URL('../', import.meta.url)
const execute = promisify(execFile)
const readJson = async <T>(file: string) => JSON.parse(await readFile(new URL(file, root), 'utf8')) as T

it('installs without the download of CUDA libraries, whatever version npm has', async () => {
  const { allowScripts } = await readJson<{ allowScripts: Record<string, boolean> }>('package.json')
  const { packages } = await readJson<{ packages: Record<string, { hasInstallScript?: boolean }> }>(
    'package-lock.json',
  )
  const scripted = Object.keys(packages).filter((path) => packages[path]!.hasInstallScript)
  // Versions of npm that know no `allowScripts` run the install scripts of the packages that are marked in the lock
  // file. Where `npm update` has put the mark of onnxruntime-node back, delete its line.
  expect(scripted).not.toContain('node_modules/onnxruntime-node')
  expect(allowScripts['onnxruntime-node']).toBe(false)
  const names = scripted.map((path) => path.split('node_modules/').at(-1))
  expect(Object.keys(allowScripts)).toEqual(expect.arrayContaining(names))
})

it('has no setting that npm does not know', async () => {
  const args = ['config', 'get', 'fund', '--loglevel', 'warn']
  const { stderr } = await execute('npm', args, { cwd: fileURLToPath(root) })
  expect(stderr).not.toContain('Unknown project config')
})

it.runIf(process.platform === 'linux' && process.arch === 'x64')(
  'downloads the CUDA libraries when it is asked to',
  async () => {
    const proxy = createServer().listen(0, '127.0.0.1')
    onTestFinished(() => void proxy.close())
    await once(proxy, 'listening')
    const asked = once(proxy, 'connect').then(([request, socket]) => {
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n')
      return request.url
    })
    const { port } = proxy.address() as AddressInfo
    const env = { ...process.env, GLOBAL_AGENT_HTTPS_PROXY: `http://127.0.0.1:${port}` }
    const install = execute('npm', ['run', 'cuda:install'], { cwd: fileURLToPath(root), env })
    await expect(install).rejects.toThrow()
    expect(await asked).toBe('api.nuget.org:443')
  },
)
