import { fileURLToPath } from 'node:url'
import { run } from '../servers/tools.ts'

const cli = fileURLToPath(new URL('../../processor/cli/main.ts', import.meta.url))

/** Names of the commands that `turbine --help` lists. */
export async function readCommands(): Promise<string[]> {
  const help = await run(process.execPath, [cli, '--help'])
  const [, list = ''] = help.split(/^Commands:$/m)
  return [...list.matchAll(/^ {2}([a-z-]+)/gm)].map(([, name]) => name!)
}
