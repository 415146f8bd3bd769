import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deployFolder } from './chart.ts'

export interface Dashboard {
  panels: {
    id: number
    type: string
    title: string
    gridPos: { x: number; y: number; w: number; h: number }
    targets?: { expr: string; legendFormat: string }[]
  }[]
}

/** The dashboard for Grafana. */
export async function readDashboard(): Promise<Dashboard> {
  return JSON.parse(await readFile(join(deployFolder, 'grafana/turbine.json'), 'utf8'))
}
