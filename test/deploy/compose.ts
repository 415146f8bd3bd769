import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { deployFolder } from './chart.ts'

export const composeFile = join(deployFolder, 'compose.yaml')

export interface Service {
  image: string
  build?: { context: string; dockerfile: string; target: string }
  command?: string[]
  environment?: Record<string, string | number>
  depends_on?: Record<string, { condition: string }>
  volumes?: string[]
  ports?: string[]
  stop_grace_period?: string
}

/** Services of the compose file, by name. */
export async function readServices(): Promise<Record<string, Service>> {
  const { services } = parse(await readFile(composeFile, 'utf8'), { merge: true }) as {
    services: Record<string, Service>
  }
  return services
}
