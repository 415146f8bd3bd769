import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { cacheFolder, hasCommand, run } from './tools.ts'

/** A command that Go builds from source, once; it stays in the user's cache. */
export interface GoTool {
  name: string
  /** The package of its `main`, e.g. `helm.sh/helm/v4/cmd/helm`. */
  package: string
  /** `v4.3.1` */
  version: string
  /** Build tags. */
  tags?: string[]
}

/** Whether the tool is in the cache, or Go to build it with is there. */
export const canInstall = (tool: GoTool) => existsSync(binaryOf(tool)) || canUseGo()

export const canUseGo = () => goCommand() !== undefined

/**
 * The path of the tool's binary. It is built the first time, which takes some minutes.
 * @throws Error where it is neither in the cache nor can be built
 */
export async function installGoTool(tool: GoTool): Promise<string> {
  const binary = binaryOf(tool)
  if (existsSync(binary)) return binary
  const go = goCommand()
  if (!go) throw new Error(`${tool.name} is built with Go, which is not there. Install Go.`)
  await mkdir(dirname(binary), { recursive: true })
  console.log(`Building ${tool.name} ${tool.version} with Go, once: it takes some minutes ...`)
  const folder = await mkdtemp(join(dirname(binary), 'build-'))
  const tags = tool.tags ? ['-tags', tool.tags.join(',')] : []
  const env = { ...process.env, GOBIN: folder }
  await run(go, ['install', ...tags, `${tool.package}@${tool.version}`], { env })
  // Several test runs may build at once. Go names the binary after the last folder of the package.
  await rename(join(folder, basename(tool.package)), binary)
  await rm(folder, { recursive: true })
  return binary
}

/**
 * The folder of a module's files, downloaded into Go's own cache the first time.
 * @param module e.g. `github.com/kedacore/keda/v2@v2.21.0`
 */
export async function goModule(module: string): Promise<string> {
  const go = goCommand()
  if (!go) throw new Error(`${module} is downloaded with Go, which is not there. Install Go.`)
  const { Dir } = JSON.parse(await run(go, ['mod', 'download', '-json', module])) as { Dir: string }
  return Dir
}

const binaryOf = ({ name, version }: GoTool) => {
  return join(cacheFolder(`${name}-${version.replace(/^v/, '')}`), name)
}

function goCommand(): string | undefined {
  const installed = '/usr/local/go/bin/go'
  if (hasCommand('go')) return 'go'
  return existsSync(installed) ? installed : undefined
}
